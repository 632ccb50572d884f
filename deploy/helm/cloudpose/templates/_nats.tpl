{{- define "cloudpose.natsUrl" -}}
{{- .Values.nats.url | default (printf "nats://%s-nats:4222" (include "cloudpose.fullname" .)) -}}
{{- end -}}

{{- define "cloudpose.natsSecret" -}}
{{- if .Values.nats.existingSecret -}}
{{- .Values.nats.existingSecret -}}
{{- else if not .Values.nats.url -}}
{{- printf "%s-nats" (include "cloudpose.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* single, or cluster: part of the pods' labels, so that a server that is about to go takes no new clients. */}}
{{- define "cloudpose.natsKind" -}}
{{- ternary "cluster" "single" (gt (int .Values.nats.bundled.servers) 1) -}}
{{- end -}}

{{/* Where KEDA asks. Of a cluster it asks each server, by the name that is hung before this one. */}}
{{- define "cloudpose.natsMonitoring" -}}
{{- $service := printf "%s-nats" (include "cloudpose.fullname" .) -}}
{{- if eq (include "cloudpose.natsKind" .) "cluster" -}}{{- $service = printf "%s-servers" $service -}}{{- end -}}
{{- printf "%s.%s.svc:8222" $service .Release.Namespace -}}
{{- end -}}

{{/* The file with the users of the bundled NATS. It goes by the name that cluster.conf includes. */}}
{{- define "cloudpose.natsRoles" -}}
{{- ternary "records.conf" "roles.conf" .Values.record.enabled -}}
{{- end -}}

{{/* Users of the bundled NATS, `route` for its servers among themselves. */}}
{{- define "cloudpose.natsUsers" -}}
gateway worker listener{{ if .Values.record.enabled }} recorder{{ end }}{{ if eq (include "cloudpose.natsKind" .) "cluster" }} route{{ end }}
{{- end -}}

{{/* The pod of the bundled NATS, but for its placement and where it keeps its data. */}}
{{- define "cloudpose.natsPod" -}}
{{- $name := printf "%s-nats" (include "cloudpose.fullname" .) -}}
{{- $image := .Values.nats.bundled.image -}}
{{- $cluster := eq (include "cloudpose.natsKind" .) "cluster" -}}
metadata:
  labels:
    {{- include "cloudpose.podLabels" . | nindent 4 }}
    app.kubernetes.io/component: nats
    cloudpose.io/nats: {{ include "cloudpose.natsKind" . }}
  annotations:
    # Of what it reads, and nothing else: a restart costs what waits.
    checksum/config: {{ (.Files.Glob (printf "files/{%s%s,nats-server.conf,permissions.conf}" (ternary "cluster.conf," "" $cluster) (include "cloudpose.natsRoles" .))).AsConfig | sha256sum }}
spec:
  serviceAccountName: {{ include "cloudpose.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ ternary 60 30 $cluster }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- include "cloudpose.podSecurity" . | nindent 4 }}
  {{- $placement := .Values.nats.bundled }}
  {{- if not $cluster }}
  # There is no other: a node that is lost is not waited for five minutes.
  {{- $soon := list }}
  {{- range $taint := list "not-ready" "unreachable" }}
  {{- $soon = append $soon (dict "key" (printf "node.kubernetes.io/%s" $taint) "operator" "Exists" "effect" "NoExecute" "tolerationSeconds" 30) }}
  {{- end }}
  {{- $placement = merge (dict "tolerations" (concat $soon $placement.tolerations)) $placement }}
  {{- end }}
  {{- include "cloudpose.placement" (dict "root" . "of" $placement) | nindent 2 }}
  {{- if $cluster }}
  # Two of three on one node would be lost with it, and with them the majority.
  topologySpreadConstraints:
    {{- range $key, $otherwise := dict "kubernetes.io/hostname" "DoNotSchedule" "topology.kubernetes.io/zone" "ScheduleAnyway" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: {{ $otherwise }}
      labelSelector:
        matchLabels:
          {{- include "cloudpose.selector" $ | nindent 10 }}
          app.kubernetes.io/component: nats
          cloudpose.io/nats: cluster
    {{- end }}
  {{- end }}
  containers:
    - name: nats
      image: {{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag }}{{ end }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [nats-server]
      {{- if $cluster }}
      args:
        - --config
        - /etc/nats/cluster.conf
        - --store_dir
        - /data
        - --http_port
        - "8222"
        - --name
        - $(POD_NAME)
        - --pid
        - /data/nats.pid
        - --routes
        - {{ include "cloudpose.natsRoutes" . }}
      {{- else }}
      args: [--config, /etc/nats/roles.conf, --store_dir, /data, --http_port, "8222"]
      {{- end }}
      env:
        {{- range $user := splitList " " (include "cloudpose.natsUsers" .) }}
        - name: CLOUDPOSE_{{ upper $user }}_PASSWORD
          valueFrom:
            secretKeyRef: { name: {{ include "cloudpose.natsSecret" $ }}, key: {{ $user }}-password }
        {{- end }}
        - name: GOMEMLIMIT
          valueFrom:
            resourceFieldRef: { resource: limits.memory }
        {{- if $cluster }}
        - name: POD_NAME
          valueFrom:
            fieldRef: { fieldPath: metadata.name }
        {{- end }}
      ports:
        - { name: nats, containerPort: 4222 }
        - { name: monitor, containerPort: 8222 }
        {{- if $cluster }}
        - { name: route, containerPort: 6222 }
        {{- end }}
      # Started, a server of a cluster has caught up with the others: the next may be restarted.
      startupProbe:
        httpGet: { path: /healthz, port: monitor }
        periodSeconds: 1
        failureThreshold: {{ ternary 300 60 $cluster }}
      livenessProbe:
        httpGet: { path: {{ ternary "/healthz?js-enabled-only=true" "/healthz" $cluster | quote }}, port: monitor }
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: { path: {{ ternary "/healthz?js-server-only=true" "/healthz" $cluster | quote }}, port: monitor }
        periodSeconds: 2
        timeoutSeconds: 2
      {{- if $cluster }}
      # Clients go to the other servers one by one before it ends.
      lifecycle:
        preStop:
          exec: { command: [nats-server, --signal, ldm=/data/nats.pid] }
      {{- end }}
      resources: {{- toYaml .Values.nats.bundled.resources | nindent 8 }}
      securityContext: {{- include "cloudpose.containerSecurity" . | nindent 8 }}
      volumeMounts:
        - { name: config, mountPath: /etc/nats, readOnly: true }
        - { name: data, mountPath: /data }
  volumes:
    - name: config
      configMap: { name: {{ $name }} }
    {{- if not $cluster }}
    - name: data
      emptyDir: { sizeLimit: 1Gi }
    {{- end }}
{{- end -}}

{{/* Every server, for the others. */}}
{{- define "cloudpose.natsRoutes" -}}
{{- $name := printf "%s-nats" (include "cloudpose.fullname" .) -}}
{{- $routes := list -}}
{{- range $n := until (int .Values.nats.bundled.servers) -}}
{{- $routes = append $routes (printf "nats-route://route:$(CLOUDPOSE_ROUTE_PASSWORD)@%s-cluster-%d.%s-servers:6222" $name $n $name) -}}
{{- end -}}
{{- join "," $routes -}}
{{- end -}}
