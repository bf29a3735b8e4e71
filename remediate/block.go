package remediate

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan"
)

// blockError is a block that no request has met.
type blockError struct{ Block }

func (e *blockError) Error() string { return e.Message }

// blockOf says what an error of the API server means for a change. It is nil for an
// error that is none of its answers: of such nothing follows for the object.
func blockOf(err error, ref Ref) *Block {
	if block, ok := errors.AsType[*blockError](err); ok {
		return &block.Block
	}
	if errors.Is(err, scan.ErrNotServed) || meta.IsNoMatchError(err) {
		return &Block{By: BlockedByMissingKind, Message: err.Error(),
			Mend: "install what serves " + ref.Kind + " (" + ref.APIVersion + "), or leave this part out"}
	}
	if other, ok := errors.AsType[*OtherVersionError](err); ok {
		return &Block{By: BlockedByMissingKind, Message: err.Error(),
			Mend: "use a version of this program that knows " + other.Served + ", or have " + other.Wanted + " served again"}
	}
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return nil
	}
	b := &Block{Message: err.Error()}
	b.By, b.Mend = classify(err, answer.Status(), ref)
	return b
}

func classify(err error, status metav1.Status, ref Ref) (BlockedBy, string) {
	message := status.Message
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return BlockedByNamespace, "wait until the namespace is gone, then plan again"
	case strings.Contains(message, "failed calling webhook"):
		return BlockedByWebhook, "see why the webhook does not answer, then plan again"
	case strings.Contains(message, "does not support dry run"):
		return BlockedByWebhook, "the webhook has side effects, so nothing can be planned past it: have it leave this kind out"
	case refused(message):
		return BlockedByAdmission, "see the policy that refuses this, and have it except the object or " + FieldManager
	case len(conflicts(err)) > 0:
		return BlockedByConflict, "settle with the other manager who owns the field, or take it over by force"
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return BlockedByConflict, "the object was changed meanwhile: plan again"
	case apierrors.IsNotFound(err) && status.Details != nil && status.Details.Kind == "namespaces" && ref.Namespace != "":
		return BlockedByNamespace, "make the namespace, or leave it out"
	case apierrors.IsForbidden(err) && strings.Contains(message, "cannot "):
		return BlockedByForbidden, "the rights that this takes are those of the printed roles"
	case apierrors.IsForbidden(err):
		return BlockedByAdmission, "an admission plugin of the API server refuses this"
	case apierrors.IsUnauthorized(err):
		return BlockedByForbidden, "log in to the cluster again"
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return BlockedByInvalid, "the installed version of " + ref.Kind + " takes other fields: see which versions are supported"
	}
	return BlockedByServer, "see the API server's log, then plan again"
}

// refused tells whether a policy or a webhook has said no: its answer may carry any
// code.
func refused(message string) bool {
	return strings.Contains(message, "denied the request") ||
		strings.Contains(message, "ValidatingAdmissionPolicy '") && strings.Contains(message, "denied request") ||
		strings.Contains(message, "violates PodSecurity")
}

// conflicts are the fields that a server-side apply was refused for, and who owns them.
func conflicts(err error) []string {
	var answer apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &answer) || answer.Status().Details == nil {
		return nil
	}
	var found []string
	for _, cause := range answer.Status().Details.Causes {
		if cause.Type == metav1.CauseTypeFieldManagerConflict {
			found = append(found, fmt.Sprintf("%s: %s", cause.Field, cause.Message))
		}
	}
	return found
}

// blocked is the change with what stands in its way.
func (c Change) blocked(b *Block) Change {
	c.Action, c.Block, c.After = Blocked, b, nil
	return c
}

// Blocked are the changes that something stands in the way of.
func (p *Plan) Blocked() []Change {
	var blocked []Change
	for _, c := range p.Changes {
		if c.Action == Blocked {
			blocked = append(blocked, c)
		}
	}
	return blocked
}
