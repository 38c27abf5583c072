// A process that does with etcd's Go client what a test tells it: one JSON object per line on stdin, one answer per line
// on stdout, each with the id of its command. It has one session; when stdin ends, it ends.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

type command struct {
	ID    int    `json:"id"`
	Do    string `json:"do"`
	Name  string `json:"name"`
	Value string `json:"value"`
	Ms    int    `json:"ms"`
}

type answer struct {
	ID       int    `json:"id"`
	Error    string `json:"error,omitempty"`
	Revision int64  `json:"revision,omitempty"`
	Value    string `json:"value,omitempty"`
	Count    int    `json:"count,omitempty"`
	Key      string `json:"key,omitempty"`
	More     bool   `json:"more,omitempty"`
}

type peer struct {
	client    *clientv3.Client
	session   *concurrency.Session
	mutexes   map[string]*concurrency.Mutex
	elections map[string]*concurrency.Election
	out       *json.Encoder
	mu        sync.Mutex
}

func main() {
	endpoint := flag.String("endpoint", "", "the server")
	ttl := flag.Int("ttl", 60, "seconds")
	flag.Parse()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: 5 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	session, err := concurrency.NewSession(client, concurrency.WithTTL(*ttl))
	if err != nil {
		log.Fatal(err)
	}
	p := &peer{client: client, session: session, out: json.NewEncoder(os.Stdout),
		mutexes: map[string]*concurrency.Mutex{}, elections: map[string]*concurrency.Election{}}
	p.tell(answer{ID: 0, Value: fmt.Sprintf("%x", session.Lease())})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			log.Fatal(err)
		}
		go p.do(c)
	}
	session.Close()
}

func (p *peer) tell(a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Encode(a)
}

func (p *peer) do(c command) {
	a, err := p.run(context.Background(), c)
	a.ID = c.ID
	if err != nil {
		a.Error = err.Error()
	}
	p.tell(a)
}

func (p *peer) mutex(name string) *concurrency.Mutex {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mutexes[name] == nil {
		p.mutexes[name] = concurrency.NewMutex(p.session, name)
	}
	return p.mutexes[name]
}

func (p *peer) election(name string) *concurrency.Election {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.elections[name] == nil {
		p.elections[name] = concurrency.NewElection(p.session, name)
	}
	return p.elections[name]
}

func (p *peer) run(ctx context.Context, c command) (a answer, err error) {
	switch c.Do {
	case "lock":
		m := p.mutex(c.Name)
		if c.Ms > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(c.Ms)*time.Millisecond)
			defer cancel()
		}
		if err = m.Lock(ctx); err == nil {
			a.Revision, a.Key = m.Header().Revision, m.Key()
		}
	case "unlock":
		err = p.mutex(c.Name).Unlock(ctx)
	case "campaign":
		e := p.election(c.Name)
		if err = e.Campaign(ctx, c.Value); err == nil {
			a.Revision, a.Key = e.Rev(), e.Key()
		}
	case "proclaim":
		err = p.election(c.Name).Proclaim(ctx, c.Value)
	case "resign":
		err = p.election(c.Name).Resign(ctx)
	case "leader":
		var r *clientv3.GetResponse
		if r, err = p.election(c.Name).Leader(ctx); err == nil {
			a.Value, a.Revision = string(r.Kvs[0].Value), r.Kvs[0].CreateRevision
		}
	case "observe":
		for r := range p.election(c.Name).Observe(ctx) {
			p.tell(answer{ID: c.ID, More: true, Value: string(r.Kvs[0].Value), Revision: r.Kvs[0].CreateRevision})
		}
	case "hammer":
		a.Count, err = p.hammer(ctx, c)
	default:
		err = fmt.Errorf("unknown command %q", c.Do)
	}
	return a, err
}
