package etl

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// Problems is everything that is wrong with a configuration, each with the key it is about.
type Problems struct {
	List []string
}

func (p *Problems) Error() string {
	text := fmt.Sprintf("%d problem(s):", len(p.List))
	for _, line := range p.List {
		text += "\n  " + line
	}
	return text
}

func (p *Problems) add(key, format string, args ...any) {
	p.List = append(p.List, key+": "+fmt.Sprintf(format, args...))
}

// has tells whether a key, or one above it, has a problem already: one mistake is to be one problem.
func (p *Problems) has(key string) bool {
	for _, line := range p.List {
		known, _, _ := strings.Cut(line, ": ")
		if key == known || strings.HasPrefix(key, known+".") {
			return true
		}
	}
	return false
}

// read goes through the text itself, for the library's decoder stops at the first mistake. False: there is nothing that
// could be looked at.
func (p *Problems) read(raw []byte, into any) bool {
	var keys yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(raw, &keys, yaml.UseOrderedMap()); err != nil {
		// Without the text around it: a line of it may hold a secret.
		p.add("YAML", "%s", strings.TrimSpace(yaml.FormatError(err, false, false)))
		return false
	}
	p.fill(keys, reflect.ValueOf(into).Elem(), "")
	return true
}

// fill goes on after every mistake.
func (p *Problems) fill(keys yaml.MapSlice, into reflect.Value, path string) {
	fields, names := map[string]reflect.Value{}, []string{}
	for i := range into.NumField() {
		if name := into.Type().Field(i).Tag.Get("yaml"); name != "" {
			fields[name], names = into.Field(i), append(names, name)
		}
	}
	for _, item := range keys {
		key := path + fmt.Sprint(item.Key)
		field, known := fields[fmt.Sprint(item.Key)]
		if !known {
			p.add(key, "unknown key; the keys here are %s", strings.Join(names, ", "))
			continue
		}
		if item.Value == nil {
			continue
		}
		if text, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
			if err := text.UnmarshalText(fmt.Append(nil, item.Value)); err != nil {
				p.add(key, "%v", err)
			}
			continue
		}
		p.value(item.Value, field, key)
	}
}

func (p *Problems) value(value any, into reflect.Value, key string) {
	inner, mapping := value.(yaml.MapSlice)
	if into.Kind() == reflect.Struct {
		if !mapping {
			p.add(key, "want keys and values")
			return
		}
		p.fill(inner, into, key+".")
		return
	}
	list, sequence := value.([]any)
	switch {
	case into.Kind() == reflect.Slice && !sequence:
		p.add(key, "want a list, such as [x, y]")
	case into.Kind() == reflect.Slice:
		for _, item := range list {
			into.Set(reflect.Append(into, reflect.ValueOf(fmt.Sprint(item))))
		}
	case mapping || sequence:
		p.add(key, "want one value")
	default:
		p.scalar(fmt.Sprint(value), into, key)
	}
}

func (p *Problems) scalar(text string, into reflect.Value, key string) {
	var err error
	switch into.Kind() {
	case reflect.String:
		into.SetString(text)
	case reflect.Bool:
		var b bool
		if b, err = strconv.ParseBool(text); err == nil {
			into.SetBool(b)
		}
	case reflect.Int, reflect.Int64:
		var n int64
		if n, err = strconv.ParseInt(text, 10, 64); err == nil {
			into.SetInt(n)
		}
	case reflect.Float64:
		var f float64
		if f, err = strconv.ParseFloat(text, 64); err == nil {
			into.SetFloat(f)
		}
	default:
		err = errors.ErrUnsupported // a field of Config that nobody has thought of here
	}
	if err != nil {
		p.add(key, "%q is not of the kind that is wanted here (%s)", text, into.Kind())
	}
}

// Size is a number of bytes, written as 16MiB, 2GiB, 512KiB or a plain number.
type Size int64

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := string(text), int64(1)
	for i, suffix := range [...]string{"KiB", "MiB", "GiB", "TiB"} {
		if before, found := strings.CutSuffix(number, suffix); found {
			number, unit = before, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is no size; write it like 16MiB", text)
	}
	*s = Size(n * unit)
	return nil
}

func (s Size) String() string {
	for i, unit := range [...]string{"TiB", "GiB", "MiB", "KiB"} {
		if step := int64(1) << (10 * (4 - i)); int64(s) >= step && int64(s)%step == 0 {
			return strconv.FormatInt(int64(s)/step, 10) + unit
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText spells the size as String does.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
