package objects

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The copy that the issue asks for: objects of 75 MB.
const (
	benchObjects = 8
	benchSize    = 75_000_000
)

// BenchmarkCopy copies 8 objects of 75 MB from the sandbox's GCS to its S3, which share the machine with the copy.
//
//	go test -run xxx -bench Copy -benchtime 3x ./etl/objects
func BenchmarkCopy(b *testing.B) {
	s := newScene(b)
	tasks := make([]Task, benchObjects)
	for i := range tasks {
		src := s.put(fmt.Sprint("o", i), benchSize)
		tasks[i] = Task{Source: src}
	}
	run := 0
	for _, part := range []int64{8 << 20, 16 << 20} {
		for _, streams := range []int{1, 4, 8} {
			b.Run(fmt.Sprintf("part=%dMiB/streams=%d", part>>20, streams), func(b *testing.B) {
				store := s.open(func(c *S3Config) { c.PartSize, c.Parallel = part, streams })
				b.SetBytes(benchObjects * benchSize)
				for b.Loop() {
					run++
					for i := range tasks {
						tasks[i].Key = fmt.Sprintf("ours/%d/%d", run, i)
					}
					if _, err := store.CopyAll(b.Context(), s.from, tasks); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRclone does the same with rclone, which must be installed (1.60.1 in Debian 12).
func BenchmarkRclone(b *testing.B) {
	s := newScene(b)
	for i := range benchObjects {
		s.put(fmt.Sprint("o", i), benchSize)
	}
	run := 0
	for _, streams := range []int{1, 4, 8} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			b.SetBytes(benchObjects * benchSize)
			for b.Loop() {
				run++
				s.rclone(fmt.Sprint("rclone/", run), streams)
			}
		})
	}
}

func (s *scene) rclone(to string, streams int) {
	e := s.box.Endpoints()
	cmd := exec.CommandContext(s.t.Context(), "rclone", "copy", "--config", "/dev/null", "--retries", "1", fmt.Sprint("--transfers=", streams), "--checkers=8",
		":gcs,anonymous,endpoint='http://"+e.GCS+"/storage/v1/':staging/",
		":s3,provider=Other,endpoint='"+e.S3+"',access_key_id='"+e.AccessKey+"',secret_access_key='"+e.SecretKey+"',region="+e.Region+",force_path_style:tiles/"+to)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_CA_BUNDLE=") { // with it rclone copies nothing: "unable to load custom CA bundle"
			cmd.Env = append(cmd.Env, v)
		}
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("rclone: %v: %s", err, said.String())
	}
}
