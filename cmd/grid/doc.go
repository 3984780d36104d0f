// Package grid writes what the commands show to people: tables, and text without what could steer a terminal.
package grid
