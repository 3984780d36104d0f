package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// The copied objects: files of tiles, one after the other, cut into this size.
const (
	copyObjects = 4
	copySize    = 75_000_000
)

// playCopy copies large objects from Google Cloud Storage to S3, each time into a folder of its own, which is removed then.
func (s *stage) playCopy(ctx context.Context) error {
	if err := s.putLarge(ctx); err != nil {
		return err
	}
	s.report.Versions["rclone"] = said(ctx, "rclone", "version")
	for n := range s.options.runs {
		for i, c := range []struct {
			work, system string
			args         func(target string) []string
		}{
			{workStream, ours, func(to string) []string { return s.partCopy(to, 1) }},
			{workStream, "rclone", func(to string) []string { return s.rclone(to, 1) }},
			{workStream, "gcsfs+s3fs", func(to string) []string {
				return []string{python, filepath.Join(peers, "transfer.py"), "http://" + s.cloud.GCS, s.cloud.S3, "staging", "large/", to}
			}},
			{workStreams, ours, func(to string) []string { return s.partCopy(to, 4) }},
			{workStreams, "rclone", func(to string) []string { return s.rclone(to, 4) }},
		} {
			if c.system == "rclone" && s.report.Versions["rclone"] == "unknown" {
				continue
			}
			folder := fmt.Sprintf("copy-%d-%d", n, i)
			run := Run{Part: partCopy, Work: c.work, System: c.system, Bytes: copyObjects * copySize}
			if _, err := s.measure(ctx, task{run: run, whole: c.system == "rclone", args: c.args("lake/" + folder)}); err != nil {
				return err
			}
			if err := s.arrived(c.system, folder); err != nil {
				return err
			}
		}
	}
	return s.save()
}

// putLarge makes the objects of what is packed in the files of tiles.
func (s *stage) putLarge(ctx context.Context) error {
	var content bytes.Buffer
	for i := 0; content.Len() < copySize; i++ {
		text, err := os.ReadFile(s.files[i%len(s.files)])
		if err != nil {
			return fmt.Errorf("read tiles: %w", err)
		}
		content.Write(text)
	}
	for i := range copyObjects {
		if err := s.put(ctx, "large/"+strconv.Itoa(i), content.Bytes()[:copySize]); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) partCopy(target string, streams int) []string {
	return []string{"bin/part", "copy", s.cloud.GCS, s.cloud.S3, "staging", "large/", target, strconv.Itoa(streams)}
}

func (s *stage) rclone(target string, streams int) []string {
	return []string{
		"rclone", "copy", "--config", "/dev/null", "--retries", "1", fmt.Sprint("--transfers=", streams), fmt.Sprint("--s3-upload-concurrency=", streams), "--s3-chunk-size=16Mi",
		":gcs,anonymous,endpoint='http://" + s.cloud.GCS + "/storage/v1/':staging/large",
		":s3,provider=Other,env_auth,endpoint='" + s.cloud.S3 + "',region=us-east-1,force_path_style:" + target,
	}
}

// arrived wants all bytes to be where the sandbox keeps them, and removes them.
func (s *stage) arrived(system, folder string) error {
	dir := filepath.Join(s.dir, "cloud", "s3", "objects", "lake", folder)
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("look at what was copied: %w", err)
	}
	if size != copyObjects*copySize {
		s.report.Broken = append(s.report.Broken, fmt.Sprintf("%s has copied %d bytes of %d", system, size, copyObjects*copySize))
	}
	return os.RemoveAll(dir)
}

// quiet runs a process that is not measured.
func (s *stage) quiet(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Env = s.env()
	_, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("run %s: %w: %s", args[0], err, tail(exit.Stderr))
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	return nil
}
