package program

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// NewFolder makes a folder for the records of a run below parent, which it makes too, and returns its absolute path. Beside that of an
// earlier run of the name it is called name-2, and so on.
func NewFolder(parent, name string) (string, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("make folder of the run: %w", err)
	}
	for n := 1; ; n++ {
		path := filepath.Join(parent, name)
		if n > 1 {
			path += "-" + strconv.Itoa(n)
		}
		err := os.Mkdir(path, 0o755)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return "", fmt.Errorf("make folder of the run: %w", err)
		}
		return path, nil
	}
}
