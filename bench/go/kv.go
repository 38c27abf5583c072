package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
)

// value is what every put writes: 64 bytes.
var value = fmt.Sprintf("%064d", 7)

// atOnce keeps so many calls in flight for the span and returns how many were answered per second.
func atOnce(call func(worker, turn int)) float64 {
	var answered int64
	var done sync.WaitGroup
	from := time.Now()
	for worker := 0; worker < *inFlight; worker++ {
		done.Add(1)
		go func(worker int) {
			defer done.Done()
			for turn := 0; time.Since(from) < span(); turn++ {
				call(worker, turn)
				atomic.AddInt64(&answered, 1)
			}
		}(worker)
	}
	done.Wait()
	return float64(answered) / time.Since(from).Seconds()
}

// put: keys of their own for every worker.
func put(ctx context.Context, client *clientv3.Client) float64 {
	defer client.Delete(ctx, *name+"/put/", clientv3.WithPrefix())
	return atOnce(func(worker, turn int) {
		_, err := client.Put(ctx, fmt.Sprintf("%s/put/%d/%d", *name, worker, turn%8), value)
		must(err)
	})
}

// get: linearizable reads of single keys.
func get(ctx context.Context, client *clientv3.Client) float64 {
	for at := 0; at < *inFlight; at++ {
		_, err := client.Put(ctx, fmt.Sprintf("%s/get/%d", *name, at), value)
		must(err)
	}
	defer client.Delete(ctx, *name+"/get/", clientv3.WithPrefix())
	return atOnce(func(worker, _ int) {
		_, err := client.Get(ctx, fmt.Sprintf("%s/get/%d", *name, worker))
		must(err)
	})
}

// watch: how many events per second reach one watcher of history that is already there.
func watch(ctx context.Context, client *clientv3.Client) float64 {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	prefix := *name + "/watch/"
	defer client.Delete(context.Background(), prefix, clientv3.WithPrefix())
	wanted := 20000
	first := int64(0)
	for at := 0; at < wanted; at += 100 {
		steps := []clientv3.Op{}
		for more := 0; more < 100; more++ {
			steps = append(steps, clientv3.OpPut(fmt.Sprintf("%s%d", prefix, at+more), value))
		}
		reply, err := client.Txn(ctx).Then(steps...).Commit()
		must(err)
		if first == 0 {
			first = reply.Header.Revision
		}
	}
	from := time.Now()
	seen := 0
	for batch := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(first)) {
		must(batch.Err())
		if seen += len(batch.Events); seen >= wanted {
			break
		}
	}
	return float64(seen) / time.Since(from).Seconds()
}
