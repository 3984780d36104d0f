package sandbox_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"cloud.google.com/go/bigquery"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"google.golang.org/api/option"

	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/sandbox/sandboxtest"
	"github.com/duoflow/duoflow/etl/synth"
)

// BenchmarkS3 is what the proxy and versitygw leave of a stream.
func BenchmarkS3(b *testing.B) {
	s := sandboxtest.Start(b, sandbox.Config{S3Buckets: []string{"tiles"}})
	e := s.Endpoints()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	b.Cleanup(transport.CloseIdleConnections)
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(e.S3), Region: e.Region, UsePathStyle: true, HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(e.AccessKey, e.SecretKey, ""),
	})
	content := noise(64 << 20)
	put := func(b *testing.B) {
		b.Helper()
		if _, err := client.PutObject(b.Context(), &s3.PutObjectInput{Bucket: aws.String("tiles"), Key: aws.String("k"), Body: bytes.NewReader(content)}); err != nil {
			b.Fatal(err)
		}
	}
	put(b) // for get, whichever is run
	b.Run("put", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			put(b)
		}
	})
	b.Run("get", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			out, err := client.GetObject(b.Context(), &s3.GetObjectInput{Bucket: aws.String("tiles"), Key: aws.String("k")})
			if err != nil {
				b.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, out.Body); err != nil || n != int64(len(content)) {
				b.Fatal(n, err)
			}
			_ = out.Body.Close()
		}
	})
}

// BenchmarkExtract is a whole year, made, packed and stored.
func BenchmarkExtract(b *testing.B) {
	s := sandboxtest.Start(b, sandbox.Config{GCSBuckets: []string{"staging"}, Tables: sandbox.Synthetic(synth.BigQuery2, 2018, 2018, 1)})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	b.Cleanup(transport.CloseIdleConnections)
	client, err := bigquery.NewClient(b.Context(), "p", option.WithEndpoint(s.Endpoints().BigQuery), option.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	rows := 0
	for b.Loop() {
		job, err := extractor(client, "lightning_2018", "gs://staging/x-*.csv.gz", "").Run(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if status, err := job.Wait(b.Context()); err != nil || status.Err() != nil {
			b.Fatal(err, status.Err())
		}
		rows += 3402287
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds()/1e6, "Mrows/s")
}
