// Package tui is the terminal interface: it draws the events of a run, and decides
// nothing. What reads, writes, copies or changes anything stands behind the interfaces
// of Options.
package tui
