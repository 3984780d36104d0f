package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// transfer copies objects; args are GCS, S3, BUCKET, PREFIX, BUCKET/PREFIX of S3, objects at a time.
func transfer(ctx context.Context, args []string) (answer, error) {
	streams, err := strconv.Atoi(args[5])
	if err != nil {
		return answer{}, fmt.Errorf("objects at a time: %w", err)
	}
	from, err := objects.OpenGCS(ctx, objects.GCSConfig{Endpoint: args[0]})
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = from.Close() }() // it was only read
	bucket, prefix, _ := strings.Cut(args[4], "/")
	to, err := objects.OpenStore(ctx, objects.S3Config{
		Bucket: bucket, Prefix: prefix, Region: "us-east-1", Endpoint: args[1], Parallel: streams,
		AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY"),
	})
	if err != nil {
		return answer{}, err
	}
	defer to.Close()
	began := time.Now()
	sources, err := from.List(ctx, args[2], args[3])
	if err != nil {
		return answer{}, err
	}
	var tasks []objects.Task
	var a answer
	for _, s := range sources {
		tasks = append(tasks, objects.Task{Source: s, Key: path.Base(s.Name)})
		a.Bytes += s.Size
	}
	_, err = to.CopyAll(ctx, from, tasks)
	a.Seconds = time.Since(began).Seconds()
	return a, err
}

// load sends rows that are in memory as the engine leaves them, as the pipeline sends them to its staging table.
func load(ctx context.Context, table, file, rows string) (answer, error) {
	n, err := strconv.Atoi(rows)
	if err != nil {
		return answer{}, fmt.Errorf("rows: %w", err)
	}
	cells, err := readCells(file, n)
	if err != nil {
		return answer{}, err
	}
	conn, err := pgx.Connect(ctx, "")
	if err != nil {
		return answer{}, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // what it did is committed, or an error
	began := time.Now()
	in, _, err := warehouse.CellCopy(cells)
	if err != nil {
		return answer{}, err
	}
	tag, err := conn.PgConn().CopyFrom(ctx, in, "COPY "+table+" FROM STDIN (FORMAT binary)")
	if err != nil {
		return answer{}, fmt.Errorf("load: %w", err)
	}
	return answer{Seconds: time.Since(began).Seconds(), Rows: tag.RowsAffected()}, nil
}

// readCells reads lines behind the header.
func readCells(file string, rows int) (aggregate.Frame, error) {
	cells := aggregate.NewCell()
	f, err := os.Open(file)
	if err != nil {
		return cells, fmt.Errorf("open cells: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan()
	for cells.Len() < rows && lines.Scan() {
		var row []int64
		for text := range strings.SplitSeq(lines.Text(), ",") {
			v, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return cells, fmt.Errorf("read cells: %w", err)
			}
			row = append(row, v)
		}
		cells.Append(row...)
	}
	return cells, lines.Err()
}
