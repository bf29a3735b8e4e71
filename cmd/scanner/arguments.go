package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/config"
)

// helpAnyway has cobra's own commands refuse words that they do not know, as all others
// do: by themselves they print help and end well.
func helpAnyway(root *cobra.Command, args []string) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Run, cmd.RunE = nil, helpOf
		case "completion":
			cmd.Args, cmd.RunE = commandsOnly, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

func helpOf(cmd *cobra.Command, args []string) error {
	about := cmd.Root()
	for _, word := range args {
		i := slices.IndexFunc(about.Commands(), func(sub *cobra.Command) bool { return sub.Name() == word || sub.HasAlias(word) })
		if i < 0 {
			return unknownCommand(about, word)
		}
		about = about.Commands()[i]
	}
	about.InitDefaultHelpFlag()
	about.InitDefaultVersionFlag()
	return about.Help()
}

// commandsOnly refuses words after a command that has others below it.
func commandsOnly(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return unknownCommand(cmd, args[0])
}

func unknownCommand(cmd *cobra.Command, word string) error {
	var known []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			known = append(known, sub.Name())
		}
	}
	return fmt.Errorf("unknown command %q for %q%s\nrun %q for the commands",
		word, cmd.CommandPath(), config.DidYouMean(word, known), cmd.CommandPath()+" --help")
}

// noWords refuses words after a command that takes flags only, none of which says what
// the word could have been.
func noWords(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("argument %q: %s takes flags only", args[0], cmd.CommandPath())
}

// flagError says what could be done about a flag that is wrong.
func flagError(cmd *cobra.Command, err error) error {
	if words := cmd.Flags().Args(); cmd.HasAvailableSubCommands() && len(words) > 0 {
		// The flags are those of a command that is not there.
		if err := cmd.ValidateArgs(words); err != nil {
			return err
		}
	}
	meant := ""
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && unknown.GetSpecifiedShortnames() == "" {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				known = append(known, "--"+f.Name)
			}
		})
		meant = config.DidYouMean("--"+unknown.GetSpecifiedName(), known)
	}
	return fmt.Errorf("%w%s\nrun %q for the flags", err, meant, cmd.CommandPath()+" --help")
}
