package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// tallySQL is the table as tally tells it.
const tallySQL = `SELECT concat_ws(' ', node, epoch, pid, count(*), sum(seq)) FROM public.probe GROUP BY node, epoch, pid`

// finish ends the writing and records what the order of commits is to be compared with.
func (p *player) finish(ctx context.Context) error {
	p.thieves.stop()
	// Nobody may write while the two are compared; the lock waits for transactions that had their permission already.
	for _, sql := range []string{`REVOKE INSERT ON public.probe FROM airflow`, `BEGIN; LOCK TABLE public.probe IN SHARE MODE; COMMIT`} {
		if _, err := p.Pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("end the writing: %w", err)
		}
	}
	if _, err := p.keep(ctx); err != nil {
		return err
	}
	rows, err := p.Pool.Query(ctx, tallySQL)
	if err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return fmt.Errorf("count rows: %w", err)
		}
		if err := p.out.write(tableName, line+"\n"); err != nil {
			return err
		}
	}
	return rows.Err()
}

// logs are the files that say what the daemons and Postgres did.
func (p *player) logs() []string {
	files := []string{filepath.Join(p.Store.Dir(), "log")}
	for _, name := range nodeNames {
		files = append(files, p.Cluster.Nodes[name].LogPath())
	}
	return files
}

// mark notes how long the logs are before a trial.
func (p *player) mark() {
	p.marks = map[string]int64{}
	for _, path := range p.logs() {
		if info, err := os.Stat(path); err == nil {
			p.marks[path] = info.Size()
		}
	}
}

// evidence keeps what the logs have got since the mark.
func (p *player) evidence(trial int) error {
	dir := filepath.Join(p.out.path, fmt.Sprintf("trial-%d", trial))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep logs: %w", err)
	}
	var errs []error
	for _, path := range p.logs() {
		errs = append(errs, copyFrom(path, p.marks[path], filepath.Join(dir, filepath.Base(path))))
	}
	return errors.Join(append(errs, keepProcesses(filepath.Join(dir, "processes")), p.keepSizes(filepath.Join(dir, "disks")))...)
}

// keepSizes notes what lies on the nodes' disks, also outside the data directories: a full one says so late, and elsewhere.
func (s *stage) keepSizes(path string) error {
	var all []byte
	for _, name := range nodeNames {
		if d := s.disks[name]; d != nil {
			free, _ := exec.Command("df", "-k", d.ext4).CombinedOutput() // what they say is the evidence, also why they cannot
			files, _ := exec.Command("du", "-ak", d.ext4).CombinedOutput()
			all = append(append(all, free...), files...)
		}
	}
	if err := os.WriteFile(path, all, 0o644); err != nil {
		return fmt.Errorf("keep sizes: %w", err)
	}
	return nil
}

// keepProcesses notes what every process of the machine does: one that was stopped and forgotten is seen at once.
func keepProcesses(path string) error {
	text, err := exec.Command("ps", "-eo", "pid,ppid,stat,etimes,wchan:24,args", "--width", "200").Output()
	if err := errors.Join(err, os.WriteFile(path, text, 0o644)); err != nil {
		return fmt.Errorf("keep processes: %w", err)
	}
	return nil
}

func copyFrom(from string, offset int64, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep log: %w", err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("keep log: %w", err)
	}
	_, err = io.Copy(out, io.NewSectionReader(in, offset, 1<<40))
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("keep log: %w", err)
	}
	return nil
}
