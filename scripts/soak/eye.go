package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// answerWithin bounds one answer; a node that is frozen or restarts gives none.
const answerWithin = 5 * time.Second

// eye looks at everything that is watched.
type eye struct {
	stage   *stage
	scraper *lab.Scraper
}

func newEye(s *stage) (*eye, error) {
	scraper, err := s.Cluster.NewScraper(answerWithin)
	if err != nil {
		return nil, err
	}
	return &eye{s, scraper}, nil
}

// look takes a sample.
func (e *eye) look(ctx context.Context, began time.Time) (Sample, error) {
	s := Sample{Seconds: time.Since(began).Seconds(), Values: map[string]float64{}}
	for name, node := range e.stage.Cluster.Nodes {
		if err := processOf(node.Process().PID(), name, s.Values); err != nil && !gone(err) {
			return s, fmt.Errorf("look at daemon %s: %w", name, err)
		}
		if m, err := e.scraper.Ask(ctx, node); err == nil { // else it is down or frozen, as it should be at times
			s.Values[name+".goroutines"] = m["go_goroutines"]
			s.Values[name+".heap_goal_mb"] = m["go_memstats_next_gc_bytes"] / (1 << 20)
		}
		for _, d := range []string{"raft", "jobs"} {
			files, kb, err := folder(filepath.Join(node.DataDir(), d))
			if err != nil {
				return s, fmt.Errorf("look at the disk of %s: %w", name, err)
			}
			s.Values[name+"."+d+"_files"], s.Values[name+"."+d+"_kb"] = files, kb
		}
	}
	return s, e.metastore(ctx, s.Values)
}

// gone: the process ended meanwhile.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) }

// processOf reads what the kernel says of a process.
func processOf(pid int, name string, into map[string]float64) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return err
	}
	rss, threads := field(string(text), "VmRSS:"), field(string(text), "Threads:")
	if rss == 0 {
		return nil // a zombie, or one that has just begun
	}
	into[name+".open_files"], into[name+".rss_mb"], into[name+".threads"] = float64(len(files)), rss/1024, threads
	return nil
}

// field is the number of a line "name: number"; 0 if there is none.
func field(text, name string) float64 {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == name {
			n, err := strconv.ParseFloat(words[1], 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// folder counts what is in a folder and all below it: files and folders, and the kilobytes that they take on disk. What goes away
// meanwhile does not count.
func folder(dir string) (files, kb float64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		var stat syscall.Stat_t
		if err := syscall.Lstat(path, &stat); err != nil {
			if gone(err) {
				return nil
			}
			return err
		}
		if path != dir {
			files++
		}
		kb += float64(stat.Blocks) / 2
		return nil
	})
	return files, kb, err
}

// metastoreSQL counts what is duoflow's in the database.
const metastoreSQL = `
	SELECT 'roles', count(*)::float8 FROM pg_roles WHERE rolname LIKE 'df\_%'
	UNION ALL SELECT 'sessions', count(*)::float8 FROM pg_stat_activity WHERE usename LIKE 'df\_%' OR usename LIKE 'fencer\_%'
	UNION ALL SELECT 'pg_authid_kb', pg_total_relation_size('pg_authid') / 1024.0
	UNION ALL SELECT c.relname || '_kb', pg_total_relation_size(c.oid) / 1024.0 FROM pg_class c WHERE c.relnamespace = 'duoflow'::regnamespace AND c.relkind = 'r'
	UNION ALL SELECT 'duo_flow_kb', pg_total_relation_size(c.oid) / 1024.0 FROM pg_class c WHERE c.relname = 'duo_flow'`

func (e *eye) metastore(ctx context.Context, into map[string]float64) error {
	rows, err := e.stage.Pool.Query(ctx, metastoreSQL)
	if err != nil {
		return fmt.Errorf("look at the metastore: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var n float64
		if err := rows.Scan(&name, &n); err != nil {
			return fmt.Errorf("look at the metastore: %w", err)
		}
		into["metastore."+name] = n
	}
	return rows.Err()
}
