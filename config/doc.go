// Package config reads what the user wants from four places: a flag beats the
// environment (ESCAPE_SCANNER_*), the environment beats the configuration file,
// and the file beats the default. It remembers for every key which of them spoke.
//
// It is strict, because a key that is silently ignored leaves a gate open that
// its author believes shut: an unknown key or variable, a value of the wrong type
// and a key given twice are errors that name the place.
package config
