package main

import (
	"github.com/spf13/cobra"

	"github.com/escape-scanner/escape-scanner/config"
)

func (a *app) configCommand() *cobra.Command {
	parent := &cobra.Command{
		Use: "config", Short: "Look at the configuration", Args: commandsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var format string
	view := &cobra.Command{
		Use: "view", Short: "Print what is in force, and where each value comes from", Args: noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, origins, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			switch format {
			case "text":
				return config.View(a.stdout, cfg, origins)
			case "yaml":
				return config.ViewYAML(a.stdout, cfg)
			}
			return oneOf("output", format, []string{"text", "yaml"})
		},
	}
	config.AddFlags(view.Flags(), config.KeyOutput)
	view.Flags().StringVarP(&format, "output", "o", "text", "text, or yaml for a configuration file")
	parent.AddCommand(view)
	return parent
}
