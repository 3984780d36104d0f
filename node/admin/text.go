package admin

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// repair replaces bytes that are no UTF-8 in every string of a message. Protobuf refuses to send such
// strings, and the output of a job or an error text of the database may hold them.
func repair(response any) {
	if message, ok := response.(proto.Message); ok {
		repairMessage(message.ProtoReflect())
	}
}

func repairMessage(message protoreflect.Message) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsList():
			repairList(field, value.List())
		case field.Kind() == protoreflect.MessageKind:
			repairMessage(value.Message())
		case field.Kind() == protoreflect.StringKind && !utf8.ValidString(value.String()):
			message.Set(field, repaired(value))
		}
		return true
	})
}

func repairList(field protoreflect.FieldDescriptor, list protoreflect.List) {
	for i := range list.Len() {
		switch value := list.Get(i); field.Kind() {
		case protoreflect.MessageKind:
			repairMessage(value.Message())
		case protoreflect.StringKind:
			list.Set(i, repaired(value))
		}
	}
}

func repaired(value protoreflect.Value) protoreflect.Value {
	return protoreflect.ValueOfString(strings.ToValidUTF8(value.String(), "\uFFFD"))
}
