{{/* The pieces of the watch's pods. */}}

{{- define "escape-scanner.watchArgs" -}}
{{- $w := .Values.watch -}}
- watch
{{- if include "escape-scanner.hasConfig" . }}
- --config=/etc/escape-scanner/config.yaml
{{- end }}
- --level={{ $w.level }}
- --pss-version={{ $w.pssVersion }}
{{- include "escape-scanner.clusterArgs" . }}
- --listen=:{{ $w.port }}
- --output={{ $w.output }}
{{- if $w.allAlerts }}
- --all-alerts
{{- end }}
{{- if $w.namespaces }}
- --namespace={{ join "," $w.namespaces }}
{{- end }}
{{- with $w.selector }}
- {{ printf "--selector=%s" . | quote }}
{{- end }}
{{- if $w.leaderElection }}
- --leader-elect
- --leader-id=$(POD_NAME)
- --lease-name={{ include "escape-scanner.leaseName" . }}
{{- else if gt (int $w.replicas) 1 }}
{{- fail "watch.replicas: more than one needs watch.leaderElection, or each would write the same" }}
{{- end }}
{{- if ne $w.reports "off" }}
- --reports={{ $w.reports }}
{{- end }}
{{- if $w.events }}
- --events
{{- end }}
{{- if and $w.webhook.existingSecret (not $w.webhook.url) (not $w.webhook.urlKey) }}
{{- fail "watch.webhook: needs url or urlKey, or there is nothing to send to" }}
{{- end }}
{{- if or $w.webhook.url $w.webhook.existingSecret }}
- --webhook-severity={{ $w.webhook.severity }}
{{- with $w.webhook.url }}
- {{ printf "--webhook=%s" . | quote }}
{{- end }}
{{- if and $w.webhook.existingSecret $w.webhook.signingKey }}
- --webhook-secret-file=/etc/escape-scanner-webhook/{{ $w.webhook.signingKey }}
{{- end }}
{{- if and $w.webhook.existingSecret $w.webhook.caKey }}
- --webhook-ca=/etc/escape-scanner-webhook/{{ $w.webhook.caKey }}
{{- end }}
{{- end }}
{{- if .Values.kubearmor.enabled }}
{{- include "escape-scanner.kubeArmorArgs" . }}
{{- else }}
- --no-alerts
{{- end }}
{{- if .Values.nodeProbe.enabled }}
- --node-probe-logs={{ include "escape-scanner.probeNamespace" . }}
{{- end }}
{{- range $w.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The Lease of the watch's replicas: each release has its own. */}}
{{- define "escape-scanner.leaseName" -}}
{{ include "escape-scanner.component" (dict "root" . "component" "watch") }}
{{- end -}}

{{- define "escape-scanner.watchEnv" -}}
{{- $w := .Values.watch -}}
{{- include "escape-scanner.env" (dict "root" $ "c" $w) }}
{{- if $w.leaderElection }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
{{- if and $w.webhook.existingSecret $w.webhook.urlKey }}
- name: ESCAPE_SCANNER_WEBHOOK
  valueFrom:
    secretKeyRef:
      name: {{ $w.webhook.existingSecret | toYaml }}
      key: {{ $w.webhook.urlKey | toYaml }}
{{- end }}
{{- end -}}

{{/* "yes" where files of the webhook's Secret are read. */}}
{{- define "escape-scanner.webhookFiles" -}}
{{- with .Values.watch.webhook }}{{- if and .existingSecret (or .signingKey .caKey) -}}yes{{- end -}}{{- end -}}
{{- end -}}

{{- define "escape-scanner.watchMounts" -}}
{{- include "escape-scanner.mounts" (dict "root" $ "c" .Values.watch "alerts" (include "escape-scanner.hears" (dict "root" $ "component" "watch"))) }}
{{- if include "escape-scanner.webhookFiles" . }}
- name: webhook
  mountPath: /etc/escape-scanner-webhook
  readOnly: true
{{- end }}
{{- end -}}

{{- define "escape-scanner.watchVolumes" -}}
{{- include "escape-scanner.volumes" (dict "root" $ "c" .Values.watch "alerts" (include "escape-scanner.hears" (dict "root" $ "component" "watch"))) }}
{{- if include "escape-scanner.webhookFiles" . }}
{{- with .Values.watch.webhook }}
- name: webhook
  secret:
    secretName: {{ .existingSecret | toYaml }}
    items:
      {{- range compact (list .signingKey .caKey) }}
      - key: {{ . | toYaml }}
        path: {{ . | toYaml }}
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}
