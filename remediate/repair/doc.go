// Package repair mends manifests in their own files, by the repairs that the rules
// proved.
//
// A repair is made in the text, so that comments, order and style stay, and is then
// proven: the text is read again, the object may differ in the fields that were to
// change and in no other, the findings must be gone, no new one may have come, and
// the API server must not refuse the pod for a contradiction. What is not proven is
// left alone, with a reason.
package repair
