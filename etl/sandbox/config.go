package sandbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
)

// Region is the region of the S3 server.
const Region = "us-east-1"

// Config says what to serve. Dir is all it needs.
type Config struct {
	// Dir holds the objects; made if missing. A sandbox started again on it finds them.
	Dir string

	// S3, GCS and BigQuery are host:port to listen at; "" is a free port of 127.0.0.1. Other than loopback is refused, unless
	// Open: whoever reaches such an address is let in.
	S3, GCS, BigQuery string
	Open              bool

	// AccessKey and SecretKey are S3's only account; both empty: random ones.
	AccessKey, SecretKey string

	// S3Buckets and GCSBuckets are made at the start unless they exist. GCS makes others when written to; S3 on CreateBucket.
	S3Buckets, GCSBuckets []string

	// Tables are BigQuery's. Those of Synthetic are generated when a job reads them.
	Tables []Table

	// ShardRows is how many rows an exported file with a * in its name holds at most; 0: 1,048,576.
	ShardRows int64

	// Faults may be planned before and while the sandbox runs; nil: none ever.
	Faults *Faults

	// Control lets clients plan them too, at ControlPath of BigQuery's server.
	Control bool

	// Logger gets one line a start and end, and one a fault; nil: nothing.
	Logger *slog.Logger
}

// Endpoints is where clients find the servers.
type Endpoints struct {
	S3        string `json:"s3"`       // http://127.0.0.1:41001; path-style addressing
	GCS       string `json:"gcs"`      // 127.0.0.1:41002, the form of STORAGE_EMULATOR_HOST
	BigQuery  string `json:"bigquery"` // http://127.0.0.1:41003, for option.WithEndpoint
	Region    string `json:"region"`   // of S3
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// complete checks the configuration and fills what is left open.
func (c Config) complete() (Config, error) {
	var all []error
	if c.Dir == "" {
		all = append(all, errors.New("dir: empty"))
	}
	for _, a := range []struct {
		key string
		at  *string
	}{{"s3", &c.S3}, {"gcs", &c.GCS}, {"bigquery", &c.BigQuery}} {
		if *a.at == "" {
			*a.at = "127.0.0.1:0"
		}
		all = append(all, c.reach(a.key, *a.at))
	}
	if c.Control && c.Faults == nil {
		c.Faults = &Faults{}
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		all = append(all, errors.New("access key and secret key: give both or none"))
	}
	if c.AccessKey == "" {
		c.AccessKey, c.SecretKey = "sandbox"+rand.Text()[:8], rand.Text()
	}
	if c.ShardRows <= 0 {
		c.ShardRows = 1 << 20
	}
	c.Tables = slices.Clone(c.Tables)
	for i, t := range c.Tables { // their files are named from where the process is now
		c.Tables[i].Files, all = absolute(t.Files, all)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(all...); err != nil {
		return c, fmt.Errorf("sandbox: %w", err)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("sandbox: %w", err)
	}
	c.Dir = dir
	return c, nil
}

func absolute(paths []string, problems []error) ([]string, []error) {
	var out []string
	for _, p := range paths {
		a, err := filepath.Abs(p)
		out, problems = append(out, a), append(problems, err)
	}
	return out, problems
}

// reach refuses an address that others could reach, unless that is wanted: nobody is asked for a password.
func (c Config) reach(key, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if ip := net.ParseIP(host); !c.Open && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s: %s is not a loopback address, and the sandbox lets everyone in", key, host)
	}
	return nil
}
