import { Aws, Duration, Fn, RemovalPolicy, Size, Validations } from 'aws-cdk-lib';
import * as events from 'aws-cdk-lib/aws-events';
import * as targets from 'aws-cdk-lib/aws-events-targets';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import type * as logs from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';

import { table, type FunctionName, type FunctionRow } from './function-table.js';
import { logGroup } from './log-group.js';
import type { Parameters } from './parameters.js';
import { statements, wildcards } from './permissions.js';
import type { Queues } from './queues.js';
import type { State } from './state.js';

export interface FunctionsProps {
  readonly parameters: Parameters;
  readonly state: State;
  readonly queues: Queues;
  readonly artifacts: string;
}

export interface DeployedFunction extends FunctionRow {
  readonly function: lambda.Function;
}

/** The eleven functions, each with a role of its own and a log group of its own. */
export class Functions extends Construct {
  readonly all: readonly DeployedFunction[];

  constructor(
    scope: Construct,
    private readonly props: FunctionsProps,
  ) {
    super(scope, 'functions');
    const layers = [
      this.layer('HelmLayer', 'helm', 'Helm and kubectl'),
      this.layer('ChartsLayer', 'charts', 'Bundled charts'),
    ];
    const environment = this.environment();
    this.all = table(props.parameters).map((row) => ({
      ...row,
      function: this.make(row, environment, row.name === 'deploy-helm' ? layers : []),
    }));
  }

  get(name: FunctionName): DeployedFunction {
    const found = this.all.find((row) => row.name === name);
    if (found === undefined) {
      throw new Error(`there is no function ${name}`);
    }
    return found;
  }

  private make(
    row: FunctionRow,
    environment: Record<string, string>,
    layers: lambda.ILayerVersion[],
  ): lambda.Function {
    const scope = new Construct(this, row.id);
    const { parameters, state, queues, artifacts } = this.props;
    const group = logGroup(scope, 'Logs', {
      name: `/aws/lambda/${Aws.STACK_NAME}-${row.name}`,
      key: state.key,
      parameters,
    });
    const role = this.role(scope, row, group);
    const made = new lambda.Function(scope, 'Function', {
      functionName: `${Aws.STACK_NAME}-${row.name}`,
      description: row.description,
      runtime: lambda.Runtime.PROVIDED_AL2023,
      handler: 'bootstrap',
      // The layer's Helm is built for x86_64 only.
      architecture: layers.length > 0 ? lambda.Architecture.X86_64 : lambda.Architecture.ARM_64,
      code: lambda.Code.fromAsset(`${artifacts}/${row.name}/bootstrap.zip`),
      layers,
      memorySize: row.memory,
      timeout: Duration.seconds(row.timeout),
      reservedConcurrentExecutions: row.concurrency,
      tracing: lambda.Tracing.ACTIVE,
      loggingFormat: lambda.LoggingFormat.JSON,
      logGroup: group,
      role,
      environment:
        layers.length > 0
          ? { ...environment, SLIPWAY_HELM: '/opt/helm/helm', SLIPWAY_CHARTS: '/opt/charts' }
          : environment,
      ...(layers.length > 0 ? { ephemeralStorageSize: Size.mebibytes(2048) } : {}),
    });
    if (row.permissions.connects === true) {
      const network = {
        SubnetIds: parameters.vpcSubnetIds.valueAsList,
        SecurityGroupIds: parameters.vpcSecurityGroupIds.valueAsList,
      };
      (made.node.defaultChild as lambda.CfnFunction).addPropertyOverride(
        'VpcConfig',
        Fn.conditionIf(parameters.hasVpc.logicalId, network, Aws.NO_VALUE),
      );
      const reason = 'The rule looks at the empty defaults of the parameters, with which there is no VPC.';
      Validations.of(made).acknowledge(
        { id: 'CloudFormation-Validate::F3031', reason },
        { id: 'CloudFormation-Validate::E1150', reason },
      );
    }
    if (row.permissions.consumes !== undefined) {
      new lambda.EventSourceMapping(scope, 'FunctionQueue', {
        target: made,
        eventSourceArn: queues.get(row.permissions.consumes).queue.queueArn,
        // deploy-helm runs two Helms at a time in one invocation.
        batchSize: row.name === 'deploy-helm' ? 2 : 10,
        maxBatchingWindow: Duration.seconds(0),
        reportBatchItemFailures: true,
        maxConcurrency: row.concurrency,
      });
    }
    if (row.name === 'sync-deployments') {
      this.everyMinute(scope, made);
    }
    return made;
  }

  private role(scope: Construct, row: FunctionRow, group: logs.ILogGroup): iam.IRole {
    // Written as the policy's own JSON: statements that depend on a condition have no other form.
    const role = new iam.CfnRole(scope, 'Role', {
      assumeRolePolicyDocument: {
        Version: '2012-10-17',
        Statement: [
          { Effect: 'Allow', Principal: { Service: 'lambda.amazonaws.com' }, Action: 'sts:AssumeRole' },
        ],
      },
      policies: [
        {
          policyName: row.name,
          policyDocument: {
            Version: '2012-10-17',
            Statement: statements(row.permissions, { ...this.props, logGroup: group }),
          },
        },
      ],
    });
    Validations.of(role).acknowledge(...wildcards(row.permissions));
    return iam.Role.fromRoleArn(scope, 'ImportedRole', role.attrArn, { mutable: false });
  }

  private everyMinute(scope: Construct, sync: lambda.Function): void {
    // A sweep that was missed is not made up for: the next one comes within the minute.
    sync.configureAsyncInvoke({ maxEventAge: Duration.seconds(60), retryAttempts: 0 });
    new events.Rule(scope, 'FunctionEveryMinute', {
      ruleName: `${Aws.STACK_NAME}-sync-deployments`,
      description: 'Looks at what is due, expired or lost.',
      schedule: events.Schedule.rate(Duration.minutes(1)),
      targets: [new targets.LambdaFunction(sync)],
    });
  }

  private layer(id: string, name: string, description: string): lambda.LayerVersion {
    return new lambda.LayerVersion(this, id, {
      layerVersionName: `${Aws.STACK_NAME}-${name}`,
      description,
      code: lambda.Code.fromAsset(`${this.props.artifacts}/layers/${name}.zip`),
      compatibleArchitectures: [lambda.Architecture.X86_64],
      compatibleRuntimes: [lambda.Runtime.PROVIDED_AL2023],
      removalPolicy: RemovalPolicy.RETAIN,
    });
  }

  private environment(): Record<string, string> {
    const { parameters, state, queues } = this.props;
    return {
      SLIPWAY_TABLE: state.table.tableName,
      SLIPWAY_BUCKET: state.bucket.bucketName,
      SLIPWAY_QUEUES: queues.urls((pair) => pair.queue.queueUrl, parameters.topics.valueAsString),
      SLIPWAY_DEAD_LETTER_QUEUES: queues.urls((pair) => pair.deadLetters.queueUrl),
      SLIPWAY_SECRETS_PREFIX: `${Aws.STACK_NAME}/`,
      SLIPWAY_KMS_KEY: state.key.keyArn,
      SLIPWAY_RETENTION_DAYS: parameters.retentionDays.value.toString(),
      SLIPWAY_CHART_HOSTS: parameters.chartHosts.valueAsString,
      SLIPWAY_PLAIN_HTTP_HOSTS: parameters.plainHttpHosts.valueAsString,
      USE_PIPELINE_ORCHESTRATION: parameters.usePipelineOrchestration.valueAsString,
      SLIPWAY_LOG: parameters.logFilter.valueAsString,
      SLIPWAY_TENANT_CLAIM: parameters.tenantClaim.valueAsString,
      SLIPWAY_ROLE_CLAIM: parameters.roleClaim.valueAsString,
    };
  }
}
