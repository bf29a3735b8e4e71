package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// maxMessage bounds what is taken over of a service's own words.
const maxMessage = 300

// passes reports whether a failure may be over at the next try.
func passes(err error) bool {
	if answer, ok := errors.AsType[minio.ErrorResponse](err); ok {
		switch answer.Code {
		case "RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException", "OperationAborted":
			return true
		}
		return answer.StatusCode >= http.StatusInternalServerError && answer.StatusCode != http.StatusNotImplemented ||
			answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout
	}
	if refused, ok := errors.AsType[*containerError](err); ok && refused.status > 0 {
		return refused.status >= http.StatusInternalServerError || refused.status == http.StatusTooManyRequests
	}
	var sts credentials.ErrorResponse
	if errors.As(err, &sts) || errors.Is(err, context.Canceled) || errors.Is(err, errCredentials) {
		return false
	}
	// Of what never became an answer, a name or a certificate that is wrong stays so.
	_, network := errors.AsType[*url.Error](err)
	return network && !wrongPlace(err)
}

// explain is an error in words for people. It holds no address with a query, in which
// secrets may stand, and of what others say no more than bears reading.
func explain(bucket, key string, err error) error {
	where := "s3://" + bucket
	if key != "" {
		where += "/" + key
	}
	var answer minio.ErrorResponse
	var sts credentials.ErrorResponse
	switch {
	case errors.As(err, &answer):
		return fmt.Errorf("%s: %s", where, words(answer.Code, answer.Message, answer.StatusCode))
	case errors.As(err, &sts):
		return fmt.Errorf("%s: credentials: %s", where, words(sts.STSError.Code, sts.STSError.Message, 0))
	}
	if e, ok := errors.AsType[*containerError](err); ok {
		return fmt.Errorf("%s: credentials: %w", where, e)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		at := ""
		if u, parseErr := url.Parse(e.URL); parseErr == nil {
			at = u.Host + ": "
		}
		return fmt.Errorf("%s: %s%w", where, at, e.Err)
	}
	return fmt.Errorf("%s: %w", where, err)
}

func words(code, message string, status int) string {
	text := strings.Trim(code+": "+message, ": ")
	if text == "" {
		text = "no reason given"
	}
	if status > 0 {
		text += fmt.Sprintf(" (HTTP %d)", status)
	}
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}
