// Package report writes what a scan learns. Each format is a scan.Handler over
// an io.Writer, and Replay feeds a saved stream to any of them.
//
// Formats that need the whole run before they can write hold its events and
// write at End, which is always the last one. Handlers keep pointers to the
// records they are given, so a sender must not change a record once sent.
//
// A watch tells a picture and then what changes. NewJSONL writes that as it is and
// NewWatchText for people; the others know no changes and are fed through Picture.
//
// Names, images, messages, values and file names come from whoever wrote the
// workloads. In the table they pass through Clean; in JSON and SARIF whatever a
// terminal could obey is written as an escape.
package report
