package shim

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

//go:embed standby.py
var program []byte

const fileName = "standby.py"

// Portable is the argument that makes the program run Airflow's public command line instead of the
// function behind it: about 0.2 s slower, the same in every Airflow version.
const Portable = "--portable"

// Dump is the signal on which the program prints the stacks of all its threads to stderr and goes on, even in a busy
// loop or a call of C. Airflow uses SIGUSR1, SIGUSR2, SIGQUIT and SIGALRM itself; libraries that take real-time signals
// take them from either end of the range. A process that has no handler yet is ended by it.
const Dump = syscall.Signal(50)

// Write puts the program into dir, which is made when missing, and returns the path to give to the
// Python that has Airflow. The file is replaced in one step, so a start at the same time sees the
// old or the new one. It is readable by every user, since a scheduler runs as a user of its own.
//
// dir must hold nothing else: Python looks for modules beside the program it starts, and a stray
// airflow_local_settings.py there would be run as the operator's. Write refuses such a dir.
func Write(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make shim dir: %w", err)
	}
	if err := onlyOurs(dir); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fileName)
	if err := replace(path, program); err != nil {
		return "", fmt.Errorf("write shim: %w", err)
	}
	return path, nil
}

// onlyOurs tolerates what an interrupted Write left behind.
func onlyOurs(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read shim dir: %w", err)
	}
	for _, entry := range entries {
		ours, _ := filepath.Match(fileName+"*", entry.Name())
		if !ours {
			return fmt.Errorf("write shim: %s holds %s: give the shim a directory of its own", dir, entry.Name())
		}
	}
	return nil
}

func replace(path string, text []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), fileName+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
