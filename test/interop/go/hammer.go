package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

// hammer takes the lock again and again; each time it reads the counter c.Value and writes it, one greater, while it
// owns the lock. It returns how often it did.
func (p *peer) hammer(ctx context.Context, c command) (int, error) {
	mutex := concurrency.NewMutex(p.session, c.Name)
	end := time.Now().Add(time.Duration(c.Ms) * time.Millisecond)
	count := 0
	for time.Now().Before(end) {
		if err := mutex.Lock(ctx); err != nil {
			return count, err
		}
		if err := p.increment(ctx, mutex.IsOwner(), c.Value); err != nil {
			return count, err
		}
		count++
		if err := mutex.Unlock(ctx); err != nil {
			return count, err
		}
	}
	return count, nil
}

func (p *peer) increment(ctx context.Context, owned clientv3.Cmp, counter string) error {
	read, err := p.client.Get(ctx, counter)
	if err != nil {
		return err
	}
	now := 0
	if len(read.Kvs) > 0 {
		if now, err = strconv.Atoi(string(read.Kvs[0].Value)); err != nil {
			return err
		}
	}
	written, err := p.client.Txn(ctx).If(owned).Then(clientv3.OpPut(counter, strconv.Itoa(now+1))).Commit()
	if err == nil && !written.Succeeded {
		err = errors.New("the lock was not ours")
	}
	return err
}
