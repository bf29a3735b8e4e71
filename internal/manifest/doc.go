// Package manifest reads Kubernetes manifests from files, directories and
// standard input, and hands out every pod and pod template in them together with
// the place of every field.
//
// Reading is a pipeline. One goroutine walks the inputs and cuts them into
// chunks: a document of YAML or JSON, or one item of a List. Workers parse,
// decode and judge the chunks, and what they find leaves in the order of the
// input. No more than a fixed amount of text is in flight, so memory does not
// grow with the input.
//
// Nothing is passed over in silence. Each document leaves as exactly one of: a
// Document that was judged, a reason why there is nothing in it to judge, or a
// scan.Failure that says what is wrong and where.
package manifest
