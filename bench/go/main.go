// What bench/ compares with: etcd's own Go client and its concurrency package, under the same workloads.
// Prints one JSON object: workload -> how many per second.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"go.etcd.io/etcd/clientv3"
)

var (
	endpoint = flag.String("endpoint", "http://127.0.0.1:2379", "the server")
	name     = flag.String("name", "bench/go", "prefix of every key")
	sessions = flag.Int("sessions", 2, "handover: how many sessions share the lock")
	seconds  = flag.Float64("seconds", 2, "how long each workload is measured")
	inFlight = flag.Int("in-flight", 512, "put, get: how many calls at once")
)

var workloads = map[string]func(context.Context, *clientv3.Client) float64{
	"bursts":   bursts,
	"election": election,
	"get":      get,
	"handover": handover,
	"lock":     lock,
	"put":      put,
	"watch":    watch,
}

func main() {
	flag.Parse()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{*endpoint}, DialTimeout: 5 * time.Second})
	must(err)
	defer client.Close()
	rates := map[string]float64{}
	for _, each := range flag.Args() {
		run, ok := workloads[each]
		if !ok {
			fmt.Fprintf(os.Stderr, "unknown workload %q\n", each)
			os.Exit(2)
		}
		rates[each] = run(context.Background(), client)
	}
	must(json.NewEncoder(os.Stdout).Encode(rates))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// span is how long each workload is measured.
func span() time.Duration {
	return time.Duration(*seconds * float64(time.Second))
}

// perSecond runs step again and again for the span and returns how often it could.
func perSecond(step func()) float64 {
	from := time.Now()
	count := 0
	for time.Since(from) < span() {
		step()
		count++
	}
	return float64(count) / time.Since(from).Seconds()
}
