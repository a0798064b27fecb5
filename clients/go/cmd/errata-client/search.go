package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	pb "errata.example/errata/gen/go/errata/v1"
)

const searchAbout = `Prints the examples nearest to a question, best first: score, ID of the block, and what was run.
`

func (p program) search(ctx context.Context, arguments []string) error {
	o := p.newOptions("search", " QUESTION", searchAbout)
	o.calls("rag", "127.0.0.1:7412")
	limit := o.Int("limit", 3, "most results, up to 100")
	token := o.String("token", "", "a token of record: waits until the search sees what was learned there")
	var namespaces texts
	o.Var(&namespaces, "namespace", "search this namespace; repeatable; the default namespace unless given")
	if err := o.read(arguments, 1); err != nil {
		return err
	}
	minToken, err := base64.StdEncoding.DecodeString(*token)
	if err != nil {
		return o.wrong("-token is not as record prints it: %v", err)
	}

	conn, err := o.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	answer, err := pb.NewRagServiceClient(conn).Search(ctx, &pb.SearchRequest{
		Query:    &pb.SearchRequest_Text{Text: o.Arg(0)},
		Limit:    int32(min(*limit, 100)),
		Filter:   &pb.SearchFilter{Namespaces: namespaces},
		MinToken: minToken,
	})
	if err != nil {
		return err
	}
	for _, result := range answer.GetResults() {
		fmt.Fprintf(p.stdout, "%.2f  %s  %s\n", result.GetScore(), result.GetExample().GetId(), command(result.GetExample()))
	}
	if answer.GetDegraded() {
		fmt.Fprintf(p.stderr, "the Learner is away or a resync runs: this is from %v ago\n", answer.GetStaleness().AsDuration())
	}
	return nil
}

// command is what an example says to run, on one line.
func command(example *pb.Example) string {
	var parts []string
	for _, block := range example.GetAnswer() {
		parts = append(parts, strings.TrimSpace(block.GetContents()))
	}
	return strings.ReplaceAll(strings.Join(parts, "\n"), "\n", " ⏎ ")
}
