// Package house holds, as tests, the rules that all code of the project keeps:
// which package may import which, what no library may do, how long a file may
// be, and which modules go together.
package house
