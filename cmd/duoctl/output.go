package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/duoflow/duoflow/cmd/grid"
)

// object is a JSON or YAML mapping that keeps its order. Protobuf's own JSON is not used: it writes
// epochs as strings and changes its white space on purpose from build to build.
type object []member

type member struct {
	name  string
	value any
}

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	var text bytes.Buffer
	text.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			text.WriteByte(',')
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, fmt.Errorf("marshal %s: %w", m.name, err)
		}
		fmt.Fprintf(&text, "%q:%s", m.name, value)
	}
	text.WriteByte('}')
	return text.Bytes(), nil
}

// MarshalYAML writes the members in order.
func (o object) MarshalYAML() (any, error) {
	slice := make(yaml.MapSlice, 0, len(o))
	for _, m := range o {
		slice = append(slice, yaml.MapItem{Key: m.name, Value: m.value})
	}
	return slice, nil
}

// objectOf turns a message into an object: every field under its name in the .proto file, also when it
// is zero, lists never null, absent optional fields and messages null.
func objectOf(message proto.Message) object {
	return objectOfReflect(message.ProtoReflect())
}

func objectOfReflect(message protoreflect.Message) object {
	fields := message.Descriptor().Fields()
	o := make(object, 0, fields.Len())
	for i := range fields.Len() {
		field := fields.Get(i)
		o = append(o, member{name: string(field.Name()), value: valueOf(message, field)})
	}
	return o
}

func valueOf(message protoreflect.Message, field protoreflect.FieldDescriptor) any {
	switch {
	case field.IsList():
		list := message.Get(field).List()
		values := make([]any, 0, list.Len())
		for i := range list.Len() {
			values = append(values, plain(list.Get(i)))
		}
		return values
	case field.HasPresence() && !message.Has(field):
		return nil
	}
	return plain(message.Get(field))
}

func plain(value protoreflect.Value) any {
	if message, ok := value.Interface().(protoreflect.Message); ok {
		return objectOfReflect(message)
	}
	return value.Interface()
}

// print writes the answer in the chosen form; table draws the one for people.
func (a *app) print(answer object, table func(io.Writer)) error {
	switch a.flags.output {
	case "json":
		text, err := json.MarshalIndent(answer, "", "  ")
		if err != nil {
			return fmt.Errorf("write json: %w", err)
		}
		fmt.Fprintf(a.out, "%s\n", text)
	case "yaml":
		text, err := yaml.Marshal(answer)
		if err != nil {
			return fmt.Errorf("write yaml: %w", err)
		}
		fmt.Fprintf(a.out, "%s", text)
	default:
		table(grid.Printable{W: a.out})
	}
	return nil
}
