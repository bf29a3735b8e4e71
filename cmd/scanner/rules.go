package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

func ruleIDs() []string {
	var ids []string
	for _, r := range scan.Rules() {
		ids = append(ids, r.ID)
	}
	return ids
}

func (a *app) rulesCommand() *cobra.Command {
	var format string
	list := &cobra.Command{
		Use: "rules", Short: "List the rules, or explain one", Args: ruleExplained,
		RunE: func(*cobra.Command, []string) error {
			return a.writeRules(format, scan.Rules(), a.listRules)
		},
	}
	list.PersistentFlags().StringVarP(&format, "output", "o", "text", "text or json")
	list.AddCommand(&cobra.Command{
		Use: "explain ID", Short: "Print what a rule means, how it is used against you and how to mend it",
		Args: func(_ *cobra.Command, ids []string) error {
			if len(ids) == 0 {
				return errors.New(`want the ID of a rule: "escape-scanner rules" lists them all`)
			}
			return nil
		},
		ValidArgsFunction: cobra.FixedCompletions(ruleIDs(), cobra.ShellCompDirectiveNoFileComp),
		RunE: func(_ *cobra.Command, ids []string) error {
			var found []scan.Rule
			for _, id := range ids {
				i := slices.IndexFunc(scan.Rules(), func(r scan.Rule) bool { return strings.EqualFold(r.ID, id) })
				if i < 0 {
					return fmt.Errorf("rule %q does not exist%s\n%q lists them all", id, config.DidYouMean(id, ruleIDs()), "escape-scanner rules")
				}
				found = append(found, scan.Rules()[i])
			}
			return a.writeRules(format, found, a.explainRules)
		},
	})
	return list
}

// ruleExplained refuses words, one of which may be the rule that is meant.
func ruleExplained(cmd *cobra.Command, words []string) error {
	for _, word := range words {
		if slices.ContainsFunc(ruleIDs(), func(id string) bool { return strings.EqualFold(id, word) }) {
			return fmt.Errorf("argument %q: a rule is explained by %q", word, cmd.CommandPath()+" explain "+word)
		}
	}
	return commandsOnly(cmd, words)
}

func (a *app) writeRules(format string, rules []scan.Rule, text func([]scan.Rule) error) error {
	switch format {
	case "text":
		return text(rules)
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(rules)
	}
	return oneOf("output", format, []string{"text", "json"})
}

func (a *app) listRules(rules []scan.Rule) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSEVERITY\tTABLE\tTITLE")
	for _, r := range rules {
		table := string(r.Category)
		if r.Level != "" {
			table += " " + r.Level
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.ID, r.Severity, table, r.Title)
	}
	return w.Flush()
}

func (a *app) explainRules(rules []scan.Rule) error {
	for i, r := range rules {
		if i > 0 {
			fmt.Fprintln(a.stdout)
		}
		if err := report.Explain(a.stdout, r, a.width(a.stdout)); err != nil {
			return err
		}
	}
	return nil
}
