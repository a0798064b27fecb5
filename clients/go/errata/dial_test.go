package errata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	pb "errata.example/errata/gen/go/errata/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// failingLearner fails GetStatus with one error after another, and succeeds when there is none left.
type failingLearner struct {
	pb.UnimplementedLearnerServiceServer
	errors []error
}

func (f *failingLearner) GetStatus(context.Context, *pb.GetStatusRequest) (*pb.GetStatusResponse, error) {
	if len(f.errors) == 0 {
		return &pb.GetStatusResponse{}, nil
	}
	err := f.errors[0]
	f.errors = f.errors[1:]
	return nil, err
}

// getStatus makes a call that fails so before it succeeds, if it is tried so often.
func getStatus(t *testing.T, failures ...error) (failed error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		_, failed = connect(t, &failingLearner{errors: failures}).GetStatus(t.Context(), &pb.GetStatusRequest{})
	})
	return failed
}

func TestAFailureHasTheReasonAndTheMetadataThatTheServiceGave(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", getStatus(t, failure(t, codes.InvalidArgument, "ERROR_REASON_INVALID_FIELD")))
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("%T", err)
	}
	if failed.Metadata["field"] != "events[0]" || ReasonOf(err) != pb.ErrorReason_ERROR_REASON_INVALID_FIELD {
		t.Errorf("%v, %v", failed.Metadata, ReasonOf(err))
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("%v", status.Code(err))
	}
	const want = `said why (InvalidArgument, INVALID_FIELD) field="events[0]"`
	if failed.Error() != want {
		t.Errorf("%s, want %s", failed, want)
	}
}

func TestAReasonThatTheStubsDoNotKnowIsNamedAllTheSame(t *testing.T) {
	err := getStatus(t, failure(t, codes.Aborted, "ERROR_REASON_OF_TOMORROW"))
	const want = `said why (Aborted, OF_TOMORROW) field="events[0]"`
	if err.Error() != want || ReasonOf(err) != pb.ErrorReason_ERROR_REASON_UNSPECIFIED {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestAFailureWithoutAReasonOfOursStaysAsItIs(t *testing.T) {
	foreign, err := status.New(codes.Aborted, "a proxy says no").WithDetails(
		&errdetails.ErrorInfo{Reason: "ERROR_REASON_INVALID_FIELD", Domain: "proxy.example"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, sent := range []error{foreign.Err(), status.Error(codes.Aborted, "without details")} {
		var ours *Error
		if err := getStatus(t, sent); status.Code(err) != codes.Aborted || errors.As(err, &ours) {
			t.Errorf("%T %v", err, err)
		}
	}
	if err := AsError(context.Canceled); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestACallIsTriedAgainWhileTheServiceIsAwayAndNotForever(t *testing.T) {
	if err := getStatus(t, errCut, errCut, errCut); err != nil {
		t.Errorf("three failures end with %v", err)
	}
	if err := getStatus(t, errCut, errCut, errCut, errCut); status.Code(err) != codes.Unavailable {
		t.Errorf("four failures end with %v", err)
	}
	if err := getStatus(t, status.Error(codes.Internal, "a bug")); status.Code(err) != codes.Internal {
		t.Errorf("a bug ends with %v", err)
	}
}

func TestEveryCallButTheStreamIsTriedAgain(t *testing.T) {
	var config struct {
		MethodConfig []struct {
			Name []struct{ Service, Method string }
		}
	}
	if err := json.Unmarshal([]byte(serviceConfig), &config); err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, name := range config.MethodConfig[0].Name {
		named[name.Service+"/"+name.Method] = true
	}
	if !named[pb.RagService_ServiceDesc.ServiceName+"/"] {
		t.Error("no call of the RAG service")
	}
	for _, method := range pb.LearnerService_ServiceDesc.Methods {
		if !named[pb.LearnerService_ServiceDesc.ServiceName+"/"+method.MethodName] {
			t.Errorf("not %s", method.MethodName)
		}
	}
	if want := len(pb.LearnerService_ServiceDesc.Methods) + 1; len(named) != want {
		t.Errorf("%d names, want %d: %v", len(named), want, named)
	}
}
