package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

func open(client *clientv3.Client) *concurrency.Session {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(60))
	must(err)
	return session
}

// lock: one session takes and gives back a lock that nobody else wants.
func lock(ctx context.Context, client *clientv3.Client) float64 {
	session := open(client)
	defer session.Close()
	mutex := concurrency.NewMutex(session, *name+"/lock")
	return perSecond(func() {
		must(mutex.Lock(ctx))
		must(mutex.Unlock(ctx))
	})
}

// handover: the lock goes round all sessions.
func handover(ctx context.Context, client *clientv3.Client) float64 {
	ring(ctx, client, *sessions, func(ctx context.Context, session *concurrency.Session) func() error {
		mutex := concurrency.NewMutex(session, *name+"/handover")
		return func() error {
			if err := mutex.Lock(ctx); err != nil {
				return err
			}
			atomic.AddInt64(&handovers, 1)
			return mutex.Unlock(context.Background())
		}
	})
	return rate
}

// election: two candidates; who leads resigns and stands again.
func election(ctx context.Context, client *clientv3.Client) float64 {
	ring(ctx, client, 2, func(ctx context.Context, session *concurrency.Session) func() error {
		election := concurrency.NewElection(session, *name+"/election")
		return func() error {
			if err := election.Campaign(ctx, "x"); err != nil {
				return err
			}
			atomic.AddInt64(&handovers, 1)
			return election.Resign(context.Background())
		}
	})
	return rate
}

var (
	handovers int64
	rate      float64
)

// ring lets every session repeat its turn until the time is up, and measures how often any of them had it.
func ring(parent context.Context, client *clientv3.Client, size int,
	newTurn func(context.Context, *concurrency.Session) func() error) {
	ctx, stop := context.WithCancel(parent)
	defer stop()
	opened := openAll(client, size)
	begun, wentRound := int64(0), make(chan struct{})
	var done sync.WaitGroup
	for _, session := range opened {
		turn := newTurn(ctx, session)
		done.Add(1)
		go func() {
			defer done.Done()
			for first := true; ctx.Err() == nil; first = false {
				if err := turn(); err != nil && ctx.Err() == nil {
					must(err)
				}
				if first && atomic.AddInt64(&begun, 1) == int64(size) {
					close(wentRound)
				}
			}
		}()
	}
	// As in bench/handover/ring.ts: the count begins when everybody has had a turn, at the latest after 15 s.
	select {
	case <-wentRound:
	case <-time.After(15 * time.Second):
	}
	time.Sleep(200 * time.Millisecond)
	from, before := time.Now(), atomic.LoadInt64(&handovers)
	time.Sleep(span())
	rate = float64(atomic.LoadInt64(&handovers)-before) / time.Since(from).Seconds()
	stop()
	done.Wait()
	closeAll(opened)
}

func openAll(client *clientv3.Client, size int) []*concurrency.Session {
	opened := make([]*concurrency.Session, size)
	each(size, func(at int) { opened[at] = open(client) })
	return opened
}

func closeAll(opened []*concurrency.Session) {
	each(len(opened), func(at int) { opened[at].Close() })
}

func each(size int, do func(int)) {
	var done sync.WaitGroup
	for at := 0; at < size; at++ {
		done.Add(1)
		go func(at int) {
			defer done.Done()
			do(at)
		}(at)
	}
	done.Wait()
}
