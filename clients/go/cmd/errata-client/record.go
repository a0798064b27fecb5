package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"errata.example/errata/clients/go/errata"
	pb "errata.example/errata/gen/go/errata/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

const recordAbout = `Records what an assistant proposed and what a person ran instead, waits until it is learned from, and prints:

  block    the ID of the block, for -block
  learned  yes, or why not
  token    for errata-client search -token; as grpcurl wants it in min_token
`

func (p program) record(ctx context.Context, arguments []string) error {
	o := p.newOptions("record", "", recordAbout)
	o.calls("learner", "127.0.0.1:7411")
	var correction errata.Correction
	o.StringVar(&correction.Question, "question", "", "what the person wanted, in prose (required)")
	o.StringVar(&correction.Proposed, "proposed", "", "what the assistant proposed; without it the default policy learns nothing")
	o.StringVar(&correction.Ran, "ran", "", "what the person ran, without failing (required)")
	o.StringVar(&correction.Language, "language", "bash", "language of both")
	o.StringVar(&correction.BlockID, "block", "", "ID of the block, to record a later run of one; a new one unless given")
	o.StringVar(&correction.Namespace, "namespace", "", "whose block it is; empty is the default namespace")
	wait := o.Duration("wait", 5*time.Second, "longest wait until it is learned from, shorter than -timeout")
	if err := o.read(arguments, 0); err != nil {
		return err
	}
	if correction.Question == "" || correction.Ran == "" {
		return o.wrong("-question and -ran are required")
	}
	if correction.BlockID == "" {
		correction.BlockID = "go-" + strings.ToLower(rand.Text())
	}
	correction.Time = time.Now()

	conn, err := o.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	learner := pb.NewLearnerServiceClient(conn)
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	recorded, err := learner.RecordEvents(ctx, &pb.RecordEventsRequest{
		Events: correction.Events(), LearnWait: durationpb.New(*wait),
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "block    %s\n", correction.BlockID)
	block, err := learner.GetBlock(ctx, &pb.GetBlockRequest{Id: correction.BlockID, Namespace: correction.Namespace})
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "learned  %s\n", learned(block.GetState()))
	if token := recorded.GetToken(); len(token) > 0 {
		fmt.Fprintf(p.stdout, "token    %s\n", base64.StdEncoding.EncodeToString(token))
	}
	return nil
}

// learned says what was learned, or why nothing was.
func learned(state *pb.BlockState) string {
	reason := strings.TrimPrefix(state.GetReason().String(), "NOT_LEARNED_REASON_")
	switch {
	case state.GetPending():
		return "not yet: it is recorded, and waits for its turn"
	case state.GetLearned():
		return "yes"
	case state.GetLastError() != "":
		return fmt.Sprintf("no: %s: %s", reason, state.GetLastError())
	default:
		return "no: " + reason
	}
}
