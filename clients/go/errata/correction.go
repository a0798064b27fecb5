package errata

import (
	"time"

	pb "errata.example/errata/gen/go/errata/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Correction is what a person ran instead of what an assistant proposed.
type Correction struct {
	// BlockID names the cell, and the example learned from it. The same one again is a later run of that cell.
	BlockID string
	// Namespace is whose cell it is; empty is the default one.
	Namespace string
	// Labels are for filtering, such as team: infra.
	Labels map[string]string
	// Question is the prose that stood before the cell.
	Question string
	// Language of both commands, such as bash. May be empty.
	Language string
	// Proposed is what the assistant said. Empty when no assistant proposed anything, from which the default
	// policy learns nothing.
	Proposed string
	// Ran is what the person ran, without failing.
	Ran string
	// Time is when it ran.
	Time time.Time
}

// Events are what to record of it. To record them twice is to record them once: an event is known by its
// contents, its time included.
func (c Correction) Events() []*pb.BlockEvent {
	question := &pb.Doc{Blocks: []*pb.Block{{Kind: pb.BlockKind_BLOCK_KIND_MARKUP, Contents: c.Question}}}
	var events []*pb.BlockEvent
	if c.Proposed != "" {
		proposed := c.event()
		proposed.Event = &pb.BlockEvent_Generated{
			Generated: &pb.BlockGenerated{Doc: question, Block: c.block(c.Proposed)},
		}
		events = append(events, proposed)
	}
	ran := c.event()
	ran.Event = &pb.BlockEvent_Executed{Executed: &pb.BlockExecuted{
		Doc: question, Block: c.block(c.Ran), Status: pb.ExecutionStatus_EXECUTION_STATUS_SUCCEEDED,
	}}
	return append(events, ran)
}

func (c Correction) event() *pb.BlockEvent {
	return &pb.BlockEvent{
		BlockId: c.BlockID, Namespace: c.Namespace, Labels: c.Labels, EventTime: timestamppb.New(c.Time),
	}
}

func (c Correction) block(contents string) *pb.Block {
	return &pb.Block{Kind: pb.BlockKind_BLOCK_KIND_CODE, Language: c.Language, Contents: contents}
}
