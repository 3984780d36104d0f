package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// why asks the cluster for the reason of each epoch above one: "19 b silent: a: not heard for 1.1s". It is what duoflow says,
// for who looks for a cause; nothing is judged by it.
func (s *stage) why(ctx context.Context, above uint64) []string {
	text, _, err := s.Cluster.Ctl(ctx, "history", "-o", "json", "--limit", "40")
	if err != nil {
		return []string{err.Error()}
	}
	var history struct {
		Entries []struct {
			Epoch  uint64
			Node   string
			Kind   string
			Reason string
		}
	}
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&history); err != nil {
		return []string{"history: " + err.Error()}
	}
	var reasons []string
	for _, e := range slices.Backward(history.Entries) {
		if e.Epoch > above && e.Kind == "grant" {
			reasons = append(reasons, fmt.Sprintf("%d %s %s", e.Epoch, e.Node, e.Reason))
		}
	}
	return reasons
}
