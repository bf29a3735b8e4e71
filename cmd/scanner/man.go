package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the manual pages. It is hidden: who packages the program runs it
// once, and the pages are in the release already.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages to a directory",
		Long: `Writes a manual page for each command to a directory, which is made when it is
missing. Their date is SOURCE_DATE_EPOCH if it is set, else that of the commit that the
program was built from.`,
		Example: `  escape-scanner man ~/.local/share/man/man1`,
		Args:    cobra.ExactArgs(1),
		Hidden:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := a.manDate()
			if err != nil {
				return err
			}
			dir := a.path(args[0])
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("man: %w", err)
			}
			root := cmd.Root()
			// The date is in the header already; the line at the end is cobra's own mark.
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Section: "1", Date: &date, Source: "escape-scanner " + a.version, Manual: "User Commands"}
			if err := doc.GenManTree(root, header, dir); err != nil {
				return fmt.Errorf("man: %w", err)
			}
			return nil
		},
	}
}

// manDate is the date that stands in the pages.
func (a *app) manDate() (time.Time, error) {
	if text := a.env("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", text)
		}
		return time.Unix(seconds, 0).UTC(), nil
	}
	if at, ok := a.made(); ok {
		return at, nil
	}
	return a.now().UTC(), nil
}
