// Command errata-client records corrections, searches for them, and follows every change of what was learned.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"errata.example/errata/clients/go/errata"
	"google.golang.org/grpc"
)

const usage = `errata-client records corrections, searches for them, and follows what is learned.

Usage:
  errata-client record -question Q -proposed P -ran R [flags]   records a correction and waits until it is learned
  errata-client search [flags] QUESTION                         finds the examples nearest to a question
  errata-client watch [flags]                                   follows every change, and proves it by digest

A round trip:
  errata-client record -question "which process listens on port 80?" -proposed "netstat -a" -ran "ss -ltnp"
  errata-client search -token TOKEN "what is listening on port 80"

TOKEN is what record printed: the search then waits until it sees what was just learned.

Flags of a command: errata-client COMMAND -help

Exit code: 0 well done, 1 a call failed, 2 the command line is wrong, 3 what was received by watch is not what
the Learner holds.
`

const (
	exitFailed   = 1
	exitUsage    = 2
	exitDiverged = 3
)

// errUsage says that the command line is wrong, and that this has been said.
var errUsage = errors.New("usage")

// program is what a command works with.
type program struct {
	stdout io.Writer
	// stderr takes what is about the run, not of its result.
	stderr io.Writer
}

func main() {
	// The first Ctrl-C ends what runs in good order; a second one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(program{stdout: os.Stdout, stderr: os.Stderr}.run(ctx, os.Args[1:]))
}

// run runs a command line, and returns the exit code.
func (p program) run(ctx context.Context, arguments []string) int {
	commands := map[string]func(context.Context, []string) error{
		"record": p.record, "search": p.search, "watch": p.watch,
	}
	if len(arguments) == 0 {
		fmt.Fprint(p.stderr, usage)
		return exitUsage
	}
	command, ok := commands[arguments[0]]
	if !ok {
		switch arguments[0] {
		case "help", "-h", "-help", "--help":
			fmt.Fprint(p.stdout, usage)
			return 0
		}
		fmt.Fprintf(p.stderr, "errata-client: there is no command %q; see errata-client -help\n", arguments[0])
		return exitUsage
	}
	err := command(ctx, arguments[1:])
	var diverged *errata.DivergedError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.As(err, &diverged):
		fmt.Fprintf(p.stderr, "errata-client: %v\n", err)
		return exitDiverged
	default:
		fmt.Fprintf(p.stderr, "errata-client: %v\n", err)
		return exitFailed
	}
}

// options are the flags that commands share, and how they are read.
type options struct {
	*flag.FlagSet
	address string
	timeout time.Duration
}

// newOptions begins the flags of a command; about says what it does and prints, below its usage line.
func (p program) newOptions(command, arguments, about string) *options {
	o := &options{FlagSet: flag.NewFlagSet(command, flag.ContinueOnError)}
	o.SetOutput(p.stderr)
	o.Usage = func() {
		fmt.Fprintf(o.Output(), "Usage: errata-client %s [flags]%s\n\n%s\nFlags:\n", command, arguments, about)
		o.PrintDefaults()
	}
	return o
}

// calls adds the flags of a command that makes single calls to a service.
func (o *options) calls(service, address string) {
	o.at(service, address)
	o.DurationVar(&o.timeout, "timeout", 10*time.Second, "longest time that the command may take")
}

// at adds the flag of where a service answers, which a variable may say too.
func (o *options) at(service, address string) {
	variable := "ERRATA_" + strings.ToUpper(service)
	if set := os.Getenv(variable); set != "" {
		address = set
	}
	o.StringVar(&o.address, service, address, "where the service answers, as HOST:PORT; or "+variable)
}

// read reads the flags of a command that takes a number of arguments.
func (o *options) read(arguments []string, count int) error {
	if err := o.Parse(arguments); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return errUsage // Parse has said it.
	}
	if o.NArg() != count {
		return o.wrong("%d arguments where %d belong; flags come first, and a text of several words is quoted", o.NArg(), count)
	}
	return nil
}

// wrong says what is wrong with the command line.
func (o *options) wrong(format string, values ...any) error {
	fmt.Fprintf(o.Output(), "errata-client %s: %s; see errata-client %s -help\n", o.Name(), fmt.Sprintf(format, values...), o.Name())
	return errUsage
}

// dial connects to the service of the flags.
func (o *options) dial() (*grpc.ClientConn, error) { return errata.Dial(o.address) }

// texts is a flag that may be given several times.
type texts []string

func (t *texts) String() string { return fmt.Sprint(*t) }

func (t *texts) Set(value string) error {
	*t = append(*t, value)
	return nil
}
