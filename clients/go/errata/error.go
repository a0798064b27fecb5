package errata

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "errata.example/errata/gen/go/errata/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// The ErrorInfo of both services has this domain; one of another domain, such as a proxy's, is not ours.
const errorDomain = "errata"

const errorReasonPrefix = "ERROR_REASON_"

// Error is a failure that a service gave a reason for. status.Code and status.Convert see through it.
type Error struct {
	// Reason is the service's own; compare it rather than the message. It is unspecified when the service
	// gave one that these stubs do not know.
	Reason pb.ErrorReason
	// Metadata is what the reason documents, such as `field`.
	Metadata map[string]string

	reasonName string
	status     *status.Status
}

// AsError turns the error of a call into an *Error where a service gave a reason, and returns any other, nil
// included, as it is. Calls over a connection of Dial have been through it.
func AsError(err error) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	said, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, detail := range said.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return &Error{
				Reason:     pb.ErrorReason(pb.ErrorReason_value[info.GetReason()]),
				Metadata:   info.GetMetadata(),
				reasonName: strings.TrimPrefix(info.GetReason(), errorReasonPrefix),
				status:     said,
			}
		}
	}
	return err
}

// ReasonOf returns the reason that a service gave for an error, wrapped or not; unspecified when it gave none.
func ReasonOf(err error) pb.ErrorReason {
	var failed *Error
	if errors.As(err, &failed) {
		return failed.Reason
	}
	return pb.ErrorReason_ERROR_REASON_UNSPECIFIED
}

// Error says what happened, why, and with which metadata.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s (%s, %s)", e.status.Message(), e.status.Code(), e.reasonName)
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		fmt.Fprintf(&text, " %s=%q", key, e.Metadata[key])
	}
	return text.String()
}

// GRPCStatus is the status as it came.
func (e *Error) GRPCStatus() *status.Status { return e.status }
