package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

// burst is what became of many calls that were asked for at once.
type burst struct {
	Client    string         `json:"client"`
	What      string         `json:"what"`
	Count     int            `json:"count"`
	Failed    map[string]int `json:"failed"`
	TookMs    int64          `json:"tookMs"`
	AskedMs   int64          `json:"askedMs"`
	BytesEach int64          `json:"bytesEach"`
	Session   string         `json:"session"`
}

// bursts asks for all the calls of each row at once, each in a goroutine of its own as is usual in Go, with a session of 3 s
// beside them, and prints a JSON line for each row.
func bursts(ctx context.Context, client *clientv3.Client) float64 {
	var session *concurrency.Session
	defer client.Delete(ctx, *name, clientv3.WithPrefix())
	lock := func(of string) error {
		mutex := concurrency.NewMutex(session, *name+of)
		if err := mutex.Lock(ctx); err != nil {
			return err
		}
		return mutex.Unlock(ctx)
	}
	put := func(at int) error {
		_, err := client.Put(ctx, fmt.Sprintf("%sk/%d", *name, at), "v")
		return err
	}
	rows := []struct {
		what  string
		count int
		call  func(at int) error
	}{
		{"put", 20000, put},
		{"put", 100000, func(at int) error { return put(at % 1000) }},
		{"get", 50000, func(at int) error {
			_, err := client.Get(ctx, fmt.Sprintf("%sk/%d", *name, at%1000))
			return err
		}},
		// One session is one place in a line: Go's tasks of one session do not exclude each other on one name.
		{"lock and unlock, a name each", 10000, func(at int) error { return lock(fmt.Sprintf("l/%d", at)) }},
	}
	for _, row := range rows {
		// One for each row: after a burst it may be lost.
		session = newSession(client)
		result := atOnceAll(row.count, row.call)
		result.Client, result.What, result.Count, result.Session = "go", row.what, row.count, "active"
		select {
		case <-session.Done():
			result.Session = "lost"
		default:
		}
		session.Close()
		must(json.NewEncoder(os.Stdout).Encode(result))
	}
	return float64(len(rows))
}

func newSession(client *clientv3.Client) *concurrency.Session {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(3))
	must(err)
	return session
}

// atOnceAll starts all calls, and waits for them.
func atOnceAll(count int, call func(at int) error) burst {
	runtime.GC()
	before := used()
	from := time.Now()
	failed := map[string]int{}
	var all sync.WaitGroup
	var mutex sync.Mutex
	for at := 0; at < count; at++ {
		all.Add(1)
		go func(at int) {
			defer all.Done()
			if err := call(at); err != nil {
				mutex.Lock()
				failed[err.Error()]++
				mutex.Unlock()
			}
		}(at)
	}
	asked := time.Since(from)
	most := used()
	all.Wait()
	return burst{
		Failed:    failed,
		TookMs:    time.Since(from).Milliseconds(),
		AskedMs:   asked.Milliseconds(),
		BytesEach: int64(most-before) / int64(count),
	}
}

// used is what heap and stacks take.
func used() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}
