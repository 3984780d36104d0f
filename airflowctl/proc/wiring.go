package proc

import (
	"fmt"
	"os"
)

// wiring is the open files of one life: ours to use, and those the child is born with.
type wiring struct {
	output   *os.File // we read stdout and stderr; nil without Spec.Output
	commands *os.File // we write, the child reads on fd 3; nil without Spec.Control
	lines    *os.File // we read what the child writes on fd 4; nil without Spec.Control
	child    []*os.File
}

func wire(spec Spec) (*wiring, error) {
	w := &wiring{}
	if err := w.connect(spec); err != nil {
		w.closeChild()
		w.closeOurs()
		return nil, err
	}
	return w, nil
}

func (w *wiring) connect(spec Spec) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open null: %w", err)
	}
	w.child = []*os.File{null, null, null}
	if spec.Output != nil {
		ours, childs, err := pipeFor(false)
		if err != nil {
			return err
		}
		w.output, w.child[1], w.child[2] = ours, childs, childs
	}
	if !spec.Control {
		return nil
	}
	for _, reads := range []bool{true, false} {
		ours, childs, err := pipeFor(reads)
		if err != nil {
			return err
		}
		w.child = append(w.child, childs)
		if reads {
			w.commands = ours
		} else {
			w.lines = ours
		}
	}
	return nil
}

// closeChild closes the child's files on our side; without it no pipe would ever end.
func (w *wiring) closeChild() { closeAll(w.child...) }

func (w *wiring) closeOurs() { closeAll(w.output, w.commands, w.lines) }
