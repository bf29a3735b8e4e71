{{/* The pieces of the audit's pod. */}}

{{/* The name of an output file without its format. A Job's name ends in the minute that
it was due, so a file of its own is kept when a pod is tried again, and sorts by time. */}}
{{- define "escape-scanner.auditFile" -}}
{{- if eq .names "job" -}}$(JOB_NAME){{- else -}}{{ include "escape-scanner.component" (dict "root" .root "component" "audit") }}{{- end -}}
{{- end -}}

{{- define "escape-scanner.suffix" -}}
{{- if eq . "table" -}}txt{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "escape-scanner.auditArgs" -}}
{{- $a := .Values.audit -}}
{{- $out := $a.outputs -}}
{{- if and $a.alerts (not .Values.kubearmor.enabled) }}
{{- fail "audit.alerts: needs kubearmor.enabled, or nobody is listened to" }}
{{- end }}
{{- if and $a.probeNodes.enabled .Values.nodeProbe.enabled }}
{{- fail "audit.probeNodes.enabled and nodeProbe.enabled: use one of them, both tell the same" }}
{{- end }}
{{- if and (eq $out.stdout "none") (not $out.files.enabled) (not $out.s3.enabled) }}
{{- fail "audit.outputs.stdout: none leaves no output; enable files or s3, or write the table" }}
{{- end }}
- scan
{{- if include "escape-scanner.hasConfig" . }}
- --config=/etc/escape-scanner/config.yaml
{{- end }}
- --level={{ $a.level }}
- --pss-version={{ $a.pssVersion }}
{{- include "escape-scanner.clusterArgs" . }}
- --fail-on={{ $a.failOn }}
{{- if $a.allowIncomplete }}
- --allow-incomplete
{{- end }}
{{- if $a.namespaces }}
- --namespace={{ join "," $a.namespaces }}
{{- end }}
{{- with $a.selector }}
- {{ printf "--selector=%s" . | quote }}
{{- end }}
{{- if ne $out.stdout "none" }}
- --output={{ $out.stdout }}
{{- end }}
{{- if $out.files.enabled }}
{{- $file := include "escape-scanner.auditFile" (dict "root" $ "names" $out.files.names) }}
{{- range $out.files.formats }}
- --output={{ . }}=/reports/{{ $file }}.{{ include "escape-scanner.suffix" . }}
{{- end }}
{{- end }}
{{- if $out.s3.enabled }}
{{- $bucket := required "audit.outputs.s3.bucket: needed where s3.enabled is true" $out.s3.bucket }}
{{- range $out.s3.formats }}
- {{ printf "--output=%s=s3://%s/%s.%s" . $bucket (trimAll "/" $out.s3.key) (include "escape-scanner.suffix" .) | quote }}
{{- end }}
{{- with $out.s3.endpoint }}
- --s3-endpoint={{ . }}
{{- end }}
{{- with $out.s3.region }}
- --s3-region={{ . }}
{{- end }}
- --s3-addressing={{ $out.s3.addressing }}
{{- if $out.s3.caConfigMap }}
- --s3-ca=/etc/escape-scanner-s3/{{ $out.s3.caKey }}
{{- end }}
{{- end }}
{{- if ne $out.reports "off" }}
- --reports={{ $out.reports }}
{{- end }}
{{- if and .Values.kubearmor.enabled $a.alerts }}
- --alerts={{ $a.alerts }}
{{- include "escape-scanner.kubeArmorArgs" . }}
{{- end }}
{{- if .Values.nodeProbe.enabled }}
- --node-probe-logs={{ include "escape-scanner.probeNamespace" . }}
{{- end }}
{{- if $a.kubearmorExec }}
- --kubearmor-exec
{{- end }}
{{- if $a.inspectImages }}
- --inspect-images
{{- end }}
{{- if $a.askServer }}
- --ask-server
{{- end }}
{{- if $a.probeNodes.enabled }}
- --probe-nodes
- --probe-image={{ include "escape-scanner.image" . }}
- --probe-namespace={{ $a.probeNodes.namespace }}
{{- end }}
{{- range $a.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "escape-scanner.auditEnv" -}}
{{- $out := .Values.audit.outputs -}}
{{- include "escape-scanner.env" (dict "root" $ "c" .Values.audit) }}
{{- if and $out.files.enabled (eq $out.files.names "job") }}
- name: JOB_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['batch.kubernetes.io/job-name']
{{- end }}
{{- if $out.s3.enabled }}
{{- include "escape-scanner.s3Env" $out.s3 }}
{{- end }}
{{- end -}}

{{- define "escape-scanner.s3Env" -}}
{{- if .existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret | toYaml }}
      key: {{ .accessKeyIDKey | toYaml }}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret | toYaml }}
      key: {{ .secretAccessKeyKey | toYaml }}
{{- if .sessionTokenKey }}
- name: AWS_SESSION_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .existingSecret | toYaml }}
      key: {{ .sessionTokenKey | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "escape-scanner.auditMounts" -}}
{{- $out := .Values.audit.outputs -}}
{{- include "escape-scanner.mounts" (dict "root" $ "c" .Values.audit "alerts" (include "escape-scanner.hears" (dict "root" $ "component" "audit"))) }}
{{- if $out.files.enabled }}
- name: reports
  mountPath: /reports
  {{- with $out.files.subPath }}
  subPath: {{ . | toYaml }}
  {{- end }}
{{- end }}
{{- if $out.s3.enabled }}
# An object has to be whole before it is sent.
- name: tmp
  mountPath: /tmp
{{- if $out.s3.caConfigMap }}
- name: s3-ca
  mountPath: /etc/escape-scanner-s3
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{- define "escape-scanner.auditVolumes" -}}
{{- $out := .Values.audit.outputs -}}
{{- include "escape-scanner.volumes" (dict "root" $ "c" .Values.audit "alerts" (include "escape-scanner.hears" (dict "root" $ "component" "audit"))) }}
{{- if $out.files.enabled }}
- name: reports
  persistentVolumeClaim:
    claimName: {{ $out.files.existingClaim | default (include "escape-scanner.component" (dict "root" $ "component" "audit")) | toYaml }}
{{- end }}
{{- if $out.s3.enabled }}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- with $out.s3.caConfigMap }}
- name: s3-ca
  configMap:
    name: {{ . | toYaml }}
{{- end }}
{{- end }}
{{- end -}}
