package bigq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/option"

	"github.com/duoflow/duoflow/etl/objects"
)

// Config says which table is read, and where to.
type Config struct {
	Project string // that runs the jobs, and pays
	Dataset string // "bigquery-public-data.noaa_lightning", or a dataset of Project
	Table   string // "lightning_strikes", or with %d for the year: "lightning_%d"

	Location string // of the dataset; "" = as the table says
	Endpoint string // a test server's URL, asked without credentials; "" = Google's

	// Credentials is a service account's file; "" = the application's default credentials.
	Credentials string

	StagingBucket string // in the dataset's location
	StagingPrefix string // of the names in it; "" = the bucket's root

	Pipeline       string       // in the jobs' ids: letters, digits and _; "" = lightning
	MaxBytesBilled int64        // of one query; 0 = no limit. A query that would cost more fails and costs nothing
	Logger         *slog.Logger // jobs, begun and adopted; nil = nothing
}

// Reader extracts chunks. Safe for use by several goroutines.
type Reader struct {
	config    Config
	client    *bigquery.Client
	gcs       *objects.GCS
	transport *http.Transport // of a test server; nil = the client's own
	log       *slog.Logger

	tries     int
	callLimit time.Duration // of one try, in which the client has tries of its own
	firstPoll time.Duration
}

var (
	wordPattern    = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	datasetPattern = regexp.MustCompile(`^([a-z][a-z0-9.:-]*\.)?[A-Za-z0-9_]+$`)
	tablePattern   = regexp.MustCompile(`^[A-Za-z0-9_-]*(%d)?[A-Za-z0-9_-]*$`)
	pathPattern    = regexp.MustCompile(`^[A-Za-z0-9._/=-]*$`)
)

func (c Config) complete() (Config, error) {
	if c.Pipeline == "" {
		c.Pipeline = "lightning"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.StagingPrefix = strings.Trim(c.StagingPrefix, "/")
	var all []error
	refuse := func(wrong bool, format string, a ...any) {
		if wrong {
			all = append(all, fmt.Errorf(format, a...))
		}
	}
	refuse(c.Project == "", "project: empty")
	refuse(!datasetPattern.MatchString(c.Dataset), "dataset: %q is neither dataset nor project.dataset", c.Dataset)
	refuse(c.Table == "" || !tablePattern.MatchString(c.Table), "table: %q is no name of a table, with %%d for the year or without", c.Table)
	refuse(c.StagingBucket == "" || !pathPattern.MatchString(c.StagingBucket), "staging bucket: %q", c.StagingBucket)
	refuse(!pathPattern.MatchString(c.StagingPrefix), "staging prefix: %q has other characters than letters, digits and . _ / = -", c.StagingPrefix)
	refuse(!wordPattern.MatchString(c.Pipeline), "pipeline: %q has other characters than letters, digits and _", c.Pipeline)
	refuse(c.MaxBytesBilled < 0, "max bytes billed: negative")
	if err := errors.Join(all...); err != nil {
		return c, fmt.Errorf("bigquery: %w", err)
	}
	return c, nil
}

// Open finds the credentials; it does not talk to the server yet. gcs reads the staging bucket and stays the caller's. Close it.
func Open(ctx context.Context, c Config, gcs *objects.GCS) (*Reader, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	r := &Reader{config: c, gcs: gcs, log: c.Logger, tries: 5, callLimit: 30 * time.Second, firstPoll: 250 * time.Millisecond}
	var options []option.ClientOption
	if c.Endpoint != "" {
		r.transport = http.DefaultTransport.(*http.Transport).Clone()
		options = append(options, option.WithEndpoint(c.Endpoint), option.WithHTTPClient(&http.Client{Transport: r.transport}))
	} else if c.Credentials != "" {
		options = append(options, option.WithAuthCredentialsFile(option.ServiceAccount, c.Credentials))
	}
	if r.client, err = bigquery.NewClient(ctx, c.Project, options...); err != nil {
		return nil, objects.Judge(ctx, "open BigQuery", err)
	}
	return r, nil
}

// Close lets the connections go.
func (r *Reader) Close() error {
	if r.transport != nil {
		r.transport.CloseIdleConnections()
	}
	return r.client.Close()
}
