package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Kind is what an operation asked for.
type Kind string

const (
	// Read is a linearizable read of a job's lease.
	Read Kind = "read"
	// Ask is a wish to move a job that holds for one epoch only.
	Ask Kind = "ask"
	// Foreign is a wish of somebody else than the clients: for which epoch, and what became of it, is not known.
	Foreign Kind = "foreign"
)

// Outcome is what the asker was told.
type Outcome string

const (
	// Done is a read that was answered, or a wish that was accepted.
	Done Outcome = "done"
	// Refused is a wish that was not accepted and never will be.
	Refused Outcome = "refused"
	// Unknown is a wish that may have been accepted, or may still be, at any time.
	Unknown Outcome = "unknown"
)

// Operation is one call and its answer. A read without an answer says nothing and is not recorded.
type Operation struct {
	Client  int     `json:"client"` // from 0; one operation at a time
	Kind    Kind    `json:"kind"`
	Job     string  `json:"job"`
	Node    string  `json:"node"` // that was asked
	Outcome Outcome `json:"outcome"`
	// Call and Return are nanoseconds of one clock that never goes back, the same for all clients.
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
	// Lease is what a read saw; nil for a wish.
	Lease *Lease `json:"lease,omitempty"`
	// Epoch and Move are what a wish is for.
	Epoch uint64 `json:"epoch,omitempty"`
	Move  string `json:"move,omitempty"`
	// Why is the refusal's or the failure's text.
	Why string `json:"why,omitempty"`
}

// Lease is what the cluster has agreed on about a job.
type Lease struct {
	Epoch  uint64 `json:"epoch"`            // 0 = never granted
	Holder string `json:"holder,omitempty"` // "" = never granted
	Phase  string `json:"phase,omitempty"`  // granted or released; "" = never granted
	// Move is the wish that is pending, "" = none; nil when the read did not tell.
	Move *string `json:"move,omitempty"`
}

// MoveTo is a wish in one word: "switchover b", or "failover" when the node is left to the cluster.
func MoveTo(kind, node string) string {
	if node == "" {
		return kind
	}
	return kind + " " + node
}

// ReadFile reads the operations of a file of JSON lines. A last line that was cut off is left out: whoever wrote it was killed.
func ReadFile(path string) ([]Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	defer file.Close()
	var all []Operation
	lines := bufio.NewReader(file)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		var op Operation
		if err == nil {
			err = json.Unmarshal(line, &op)
		}
		if err == nil {
			err = op.validate()
		}
		if err != nil {
			return nil, fmt.Errorf("read history %s:%d: %w", path, n, err)
		}
		all = append(all, op)
	}
}

// validate refuses what no client writes.
func (op Operation) validate() error {
	switch {
	case op.Job == "" || op.Client < 0 || op.Call < 0 || op.Return < op.Call:
		return errors.New("no job, no client, or it returned before it was called")
	case op.Kind == Read && op.Lease != nil && op.Outcome == Done:
		return nil
	case op.Kind == Ask && op.Epoch > 0 && op.Move != "":
		return nil
	case op.Kind == Foreign:
		return nil
	}
	return fmt.Errorf("%s, %s: what it is for, or what it saw, is missing", op.Kind, op.Outcome)
}

func (op Operation) String() string {
	text, err := json.Marshal(op)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
