package proc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// maxLine bounds a line of output and of the control pipe, in bytes; longer ones are cut in pieces.
const maxLine = 64 << 10

// pipeFor makes a pipe of which the child gets one end. Only our own end is non-blocking (so that
// deadlines work on it); the child's must block, since programs do not expect EAGAIN on stdout.
func pipeFor(childReads bool) (ours, childs *os.File, err error) {
	var fd [2]int
	if err := syscall.Pipe2(fd[:], syscall.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	our, child := fd[0], fd[1]
	if childReads {
		our, child = fd[1], fd[0]
	}
	if err := syscall.SetNonblock(our, true); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make pipe: %w", err), syscall.Close(our), syscall.Close(child))
	}
	return os.NewFile(uintptr(our), "pipe"), os.NewFile(uintptr(child), "child pipe"), nil
}

// eachLine calls f with every line of r, without its newline, until the end of r. A last line
// without newline counts; what f gets is only valid during the call.
func eachLine(r io.Reader, f func(line []byte)) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		if err == nil {
			line = line[:len(line)-1]
		}
		if err == nil || len(line) > 0 {
			f(line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// closeAll closes what is there; the ends of pipes and /dev/null have nothing to report.
func closeAll(files ...*os.File) {
	for _, file := range files {
		if file != nil {
			_ = file.Close()
		}
	}
}
