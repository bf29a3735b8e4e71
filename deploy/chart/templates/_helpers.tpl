{{/* Names and labels. */}}

{{- define "escape-scanner.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that a CronJob's name, and the Jobs' below it, stay legal. */}}
{{- define "escape-scanner.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "escape-scanner.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a component's pods are selected by. Takes (dict "root" $ "component" NAME). */}}
{{- define "escape-scanner.selector" -}}
app.kubernetes.io/name: {{ include "escape-scanner.name" .root | toYaml }}
app.kubernetes.io/instance: {{ .root.Release.Name | toYaml }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All labels of an object, with those of the user. */}}
{{- define "escape-scanner.labels" -}}
{{- $labels := include "escape-scanner.selector" . | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/part-of" "escape-scanner" -}}
{{- $_ := set $labels "app.kubernetes.io/version" (.root.Values.image.tag | default .root.Chart.AppVersion | toString) -}}
{{- if not .root.Values.plainManifests -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- end -}}
{{- toYaml (merge $labels .root.Values.commonLabels) -}}
{{- end -}}

{{/* Labels of a component's pods, with those of the user; what pods are selected by stays. */}}
{{- define "escape-scanner.podLabels" -}}
{{- $labels := include "escape-scanner.labels" . | fromYaml -}}
{{- toYaml (merge $labels (index .root.Values (.values | default .component)).podLabels) -}}
{{- end -}}

{{/* The name of a component's objects. */}}
{{- define "escape-scanner.component" -}}
{{ include "escape-scanner.fullname" .root }}-{{ .component }}
{{- end -}}

{{/* The name of a component's ServiceAccount. */}}
{{- define "escape-scanner.serviceAccount" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (include "escape-scanner.component" .) -}}
{{- else -}}
{{- required (printf "%s.serviceAccount.name: needed where serviceAccount.create is false" .component) $account.name -}}
{{- end -}}
{{- end -}}

{{- define "escape-scanner.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* "yes" where a component listens to KubeArmor. Takes (dict "root" $ "component" NAME). */}}
{{- define "escape-scanner.hears" -}}
{{- if and .root.Values.kubearmor.enabled (or (eq .component "watch") .root.Values.audit.alerts) -}}yes{{- end -}}
{{- end -}}

{{/* The port of a URL, or of HOST:PORT. */}}
{{- define "escape-scanner.port" -}}
{{- $host := . | regexFind "^([a-z]+://)?[^/?]*" -}}
{{- $port := regexFind ":[0-9]+$" $host | trimPrefix ":" -}}
{{- $port | default (ternary "80" "443" (hasPrefix "http://" $host)) -}}
{{- end -}}

{{/* Where the node probe runs: with nothing that is not its own. */}}
{{- define "escape-scanner.probeNamespace" -}}
{{- $name := .Values.nodeProbe.namespace.name | default (printf "%s-node-probe" (.Release.Namespace | trunc 52)) -}}
{{- if or (eq $name .Release.Namespace "default") (hasPrefix "kube-" $name) -}}
{{- fail (printf "nodeProbe.namespace.name: in %s there are pods of others; the probe needs a namespace of its own" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* "yes" where there is a configuration file. */}}
{{- define "escape-scanner.hasConfig" -}}
{{- if or .Values.existingConfigMap .Values.exceptions .Values.config -}}yes{{- end -}}
{{- end -}}

{{- define "escape-scanner.configMap" -}}
{{- .Values.existingConfigMap | default (printf "%s-config" (include "escape-scanner.fullname" .)) -}}
{{- end -}}
