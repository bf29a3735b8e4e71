// Package hush keeps the terminal from being asked for its colours while a program starts.
//
// Bubbletea does that when it is initialized, whatever the program is about to do: each
// command would write an escape sequence to its terminal, swallow what was typed ahead, and
// wait for five seconds where nothing answers. A program that says that it runs in CI is
// not asked. Of packages that could be initialized next, Go takes the one whose path
// comes first; this one needs only os, and comes before the library that asks.
package hush

import "os"

// variable is the one that stops the question.
const variable = "CI"

var was, had = begin() //nolint:gochecknoglobals // It has to be done before main.

func begin() (was string, had bool) {
	was, had = os.LookupEnv(variable)
	// Without it the question is asked, no more.
	_ = os.Setenv(variable, "1")
	return was, had
}

// End puts the environment back. Whoever imports what asks calls it when it is initialized
// itself, which is later.
func End() bool {
	if had {
		return os.Setenv(variable, was) == nil
	}
	return os.Unsetenv(variable) == nil
}
