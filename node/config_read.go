package node

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Problems is everything that is wrong with a configuration, each with the key it is about.
type Problems struct {
	List []string
	// misread are the keys whose values could not be read.
	misread []string
	// unreadable: there is nothing that could be looked at.
	unreadable bool
}

func (p *Problems) Error() string {
	s := fmt.Sprintf("%d problem(s):", len(p.List))
	for _, line := range p.List {
		s += "\n  " + line
	}
	return s
}

// misreads notes a key whose value is not there because of what is written.
func (p *Problems) misreads(key string, at ast.Node, format string, args ...any) {
	p.misread = append(p.misread, key)
	if m, ok := at.(*ast.MappingNode); ok && len(m.Values) > 0 {
		at = m.Values[0].Key // the mapping's own place is that of a colon
	}
	where := at.GetToken().Position
	p.List = append(p.List, fmt.Sprintf("%s: [%d:%d] %s", key, where.Line, where.Column, fmt.Sprintf(format, args...)))
}

// add notes what is wrong with a key, unless it or what it is part of was misread: one mistake is to be one problem.
func (p *Problems) add(key, format string, args ...any) {
	for _, known := range p.misread {
		if key == known || strings.HasPrefix(key, known+".") {
			return
		}
	}
	p.List = append(p.List, key+": "+fmt.Sprintf(format, args...))
}

// readYAML goes through the text itself, for the library's decoder stops at the first mistake.
func readYAML(raw []byte, into *Config, p *Problems) {
	file, err := parser.ParseBytes(raw, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		p.unreadable = true
		p.add("YAML", "%s", yamlError(err))
		return
	}
	r := reader{problems: p, anchors: map[string]ast.Node{}}
	for i, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if i > 0 {
			p.misreads("YAML", doc.Body, "a second document; want one")
			continue
		}
		ast.Walk(anchors(r.anchors), doc.Body)
		if !mapping(doc.Body) {
			p.unreadable = true
			p.misreads("YAML", doc.Body, "want keys and values")
			return
		}
		r.read(doc.Body, reflect.ValueOf(into).Elem(), "")
	}
}

// mistake is the library's own message, without the place, which we say ourselves.
func mistake(err error) string {
	text := yamlError(err)
	if _, after, found := strings.Cut(text, "] "); found && strings.HasPrefix(text, "[") {
		return after
	}
	return text
}

// yamlError says what is wrong and where, without the text around it: a line of it may hold a password.
func yamlError(err error) string { return yaml.FormatError(err, false, false) }

func mapping(node ast.Node) bool {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

// anchors collects the nodes that aliases stand for.
type anchors map[string]ast.Node

// Visit sees every node.
func (a anchors) Visit(node ast.Node) ast.Visitor {
	if anchor, ok := node.(*ast.AnchorNode); ok {
		a[anchor.Name.GetToken().Value] = anchor.Value
	}
	return a
}

type reader struct {
	problems *Problems
	anchors  map[string]ast.Node
}

// maxHops bounds aliases of aliases, and what is merged into what is merged.
const maxHops = 8

// plain is the node itself, without its anchor and tag, or what an alias stands for; nil for one that stands for nothing.
func (r reader) plain(node ast.Node) ast.Node {
	for range maxHops {
		switch n := node.(type) {
		case *ast.AnchorNode:
			node = n.Value
		case *ast.TagNode:
			node = n.Value
		case *ast.AliasNode:
			node = r.anchors[n.Value.GetToken().Value]
		default:
			return node
		}
	}
	return nil
}

// read fills a value with a node, and goes on after every mistake.
func (r reader) read(node ast.Node, into reflect.Value, path string) {
	at := node
	switch node = r.plain(node); n := node.(type) {
	case nil:
		r.problems.misreads(path, at, "an alias of nothing, or of itself")
		return
	case *ast.NullNode:
		return
	case *ast.StringNode:
		if member, ok := into.Addr().Interface().(*Member); ok { // the short form
			*member = Member{Peer: n.Value}
			return
		}
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		r.read(node, into.Elem(), path)
	case reflect.Struct:
		r.readStruct(node, into, path)
	case reflect.Map:
		r.readMap(node, into, path)
	case reflect.Slice:
		r.readSlice(node, into, path)
	default:
		r.readScalar(node, into, path)
	}
}

func (r reader) readStruct(node ast.Node, into reflect.Value, path string) {
	fields, names := map[string]reflect.Value{}, []string{}
	for i := range into.NumField() {
		if name := into.Type().Field(i).Tag.Get("yaml"); name != "" { // the others are no keys
			fields[name], names = into.Field(i), append(names, name)
		}
	}
	for _, e := range r.entries(node, path, 0) {
		field, known := fields[e.key]
		if !known {
			r.problems.misreads(join(path, e.key), e.at, "unknown key; the keys here are %s", strings.Join(names, ", "))
			continue
		}
		r.read(e.value, field, join(path, e.key))
	}
}

func (r reader) readMap(node ast.Node, into reflect.Value, path string) {
	into.Set(reflect.MakeMap(into.Type()))
	for _, e := range r.entries(node, path, 0) {
		value := reflect.New(into.Type().Elem()).Elem()
		r.read(e.value, value, join(path, e.key))
		into.SetMapIndex(reflect.ValueOf(e.key), value)
	}
}

func (r reader) readSlice(node ast.Node, into reflect.Value, path string) {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		r.problems.misreads(path, node, "want a list, such as [x, y]")
		return
	}
	for i, item := range list.Values {
		value := reflect.New(into.Type().Elem()).Elem()
		r.read(item, value, fmt.Sprintf("%s[%d]", path, i))
		into.Set(reflect.Append(into, value))
	}
}

func (r reader) readScalar(node ast.Node, into reflect.Value, path string) {
	if _, list := node.(*ast.SequenceNode); list || mapping(node) {
		r.problems.misreads(path, node, "want one value")
		return
	}
	if err := yaml.NodeToValue(node, into.Addr().Interface()); err != nil {
		r.problems.misreads(path, node, "%s", mistake(err))
	}
}

// entry is one line of a mapping.
type entry struct {
	key   string
	at    ast.Node
	value ast.Node
}

// entries lists a mapping without what it says twice, and after its own what is merged into it.
func (r reader) entries(node ast.Node, path string, depth int) []entry {
	var lines []*ast.MappingValueNode
	switch n := r.plain(node).(type) {
	case *ast.MappingNode:
		lines = n.Values
	case *ast.MappingValueNode:
		lines = []*ast.MappingValueNode{n}
	case *ast.NullNode:
	default:
		r.problems.misreads(path, node, "want keys and values")
		return nil
	}
	var own, merged []entry
	for _, line := range lines {
		e := entry{key: keyText(line.Key), at: line.Key, value: line.Value}
		switch twice := slices.IndexFunc(own, func(o entry) bool { return o.key == e.key }); {
		case line.Key.IsMergeKey() && depth < maxHops:
			merged = append(merged, r.entries(line.Value, join(path, e.key), depth+1)...)
		case twice >= 0:
			r.problems.misreads(join(path, e.key), e.at, "said already in line %d; remove one", own[twice].at.GetToken().Position.Line)
		default:
			own = append(own, e)
		}
	}
	for _, e := range merged {
		if !slices.ContainsFunc(own, func(o entry) bool { return o.key == e.key }) {
			own = append(own, e)
		}
	}
	return own
}

func keyText(key ast.MapKeyNode) string {
	if text, ok := key.(*ast.StringNode); ok && text.Value != "" {
		return text.Value
	}
	return cmp.Or(key.GetToken().Value, `""`)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
