package scan

import (
	"context"
	"errors"
	"net"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// FailureOf makes a failure of an error that reading subject ended with.
func FailureOf(subject, namespace string, err error, affects string) Failure {
	return Failure{Subject: subject, Namespace: namespace, Reason: failureReason(err), Message: err.Error(), Affects: affects}
}

// failureReason classes an error of a source, which may know its class by itself.
func failureReason(err error) FailureReason {
	var netErr net.Error
	var classed interface{ FailureReason() FailureReason }
	switch {
	case errors.As(err, &classed):
		return classed.FailureReason()
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return FailureForbidden
	case apierrors.IsNotFound(err), errors.Is(err, ErrNotRecorded):
		return FailureNotFound
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return FailureTimeout
	case errors.Is(err, context.Canceled):
		return FailureInterrupted
	case errors.As(err, &netErr):
		if netErr.Timeout() {
			return FailureTimeout
		}
		return FailureUnreachable
	}
	return FailureRead
}
