package relay

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestForward: packets leave by the time they are due, and by their order when that is the same.
func TestForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := make(chan held)
		var got []string
		ended := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(ended)
			forward(t.Context(), in, func(frame []byte) {
				got = append(got, time.Since(began).String()+" "+string(frame))
			})
		}()
		for i, wait := range []time.Duration{3, 1, 2, 1, 0} {
			in <- held{began.Add(wait * time.Second), uint64(i), []byte{'a' + byte(i)}}
		}
		time.Sleep(time.Minute)
		close(in)
		<-ended
		if want := []string{"0s e", "1s b", "1s d", "2s c", "3s a"}; !slices.Equal(got, want) {
			t.Errorf("sent %v, want %v", got, want)
		}
	})
}

func TestForwardEndsAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		in := make(chan held)
		sent := 0
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			forward(ctx, in, func([]byte) { sent++ })
		}()
		soon := time.Now().Add(time.Second)
		for i := range maxHeld + 100 {
			in <- held{due: soon, order: uint64(i)}
		}
		in <- held{due: soon.Add(time.Hour)}
		time.Sleep(time.Minute)
		if sent != maxHeld {
			t.Errorf("%d packets were held at once, want %d", sent, maxHeld)
		}
		in <- held{due: time.Now().Add(time.Hour)}
		cancel()
		<-ended
		if sent != maxHeld {
			t.Errorf("%d packets left, %d of them after the end", sent, sent-maxHeld)
		}
	})
}
