// An open-loop load: requests are due at a fixed rate, whatever the service does. Latency counts from the moment a request
// was due, so a stall shows in every request it delayed.
//
//	openloop URL BODYFILE RATE SECONDS WORKERS
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func number(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	url, rate, seconds, workers := os.Args[1], number(os.Args[3]), number(os.Args[4]), int(number(os.Args[5]))
	body, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	total := int64(rate * seconds)
	latencies := make([]float64, total)
	var next, failed int64
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers, MaxConnsPerHost: workers}}
	start := time.Now().Add(50 * time.Millisecond)
	var group sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				index := atomic.AddInt64(&next, 1) - 1
				if index >= total {
					return
				}
				due := start.Add(time.Duration(float64(index) / rate * 1e9))
				time.Sleep(time.Until(due))
				answer, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err == nil {
					io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
				}
				if err != nil || answer.StatusCode != 202 {
					atomic.AddInt64(&failed, 1)
				}
				latencies[index] = time.Since(due).Seconds() * 1000
			}
		}()
	}
	group.Wait()
	sort.Float64s(latencies)
	fmt.Printf("%d %d %.3f %.3f\n", total, failed, latencies[total/2], latencies[total*99/100])
}
