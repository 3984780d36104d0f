// Package grid writes what the commands show to people: tables, the words in their cells, and text without what could steer a terminal.
package grid
