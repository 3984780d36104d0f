// Package failpoints builds duoflowd a second time, with the places awake at which it can be told to die, to stand still or
// to be late: before and after a save, a message, a step of the fence, a start. In the product such a place is one comment
// line, "gofail: var name struct{}", and nothing else; see DESIGN.md.
package failpoints
