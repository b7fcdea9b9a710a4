import { CfnCondition, CfnParameter, CfnRule, Fn, type CfnParameterProps } from 'aws-cdk-lib';
import { Construct } from 'constructs';

/** What differs between environments, and the conditions that follow from it. */
export class Parameters extends Construct {
  readonly jwtIssuer: CfnParameter;
  readonly jwtAudience: CfnParameter;
  readonly tenantClaim: CfnParameter;
  readonly roleClaim: CfnParameter;
  readonly domainName: CfnParameter;
  readonly certificateArn: CfnParameter;
  readonly apiRate: CfnParameter;
  readonly apiBurst: CfnParameter;
  readonly apiConcurrency: CfnParameter;
  readonly planDagConcurrency: CfnParameter;
  readonly executeStepConcurrency: CfnParameter;
  readonly deployHelmConcurrency: CfnParameter;
  readonly handleEventsConcurrency: CfnParameter;
  readonly trackDeploymentsConcurrency: CfnParameter;
  readonly retentionDays: CfnParameter;
  readonly blobRetentionDays: CfnParameter;
  readonly logRetentionDays: CfnParameter;
  readonly chartHosts: CfnParameter;
  readonly plainHttpHosts: CfnParameter;
  readonly usePipelineOrchestration: CfnParameter;
  readonly logFilter: CfnParameter;
  readonly topics: CfnParameter;
  readonly topicArns: CfnParameter;
  readonly clusterArns: CfnParameter;
  readonly clusterRoleArns: CfnParameter;
  readonly vpcSubnetIds: CfnParameter;
  readonly vpcSecurityGroupIds: CfnParameter;
  readonly alarmTopicArn: CfnParameter;

  readonly hasDomain: CfnCondition;
  readonly hasTopics: CfnCondition;
  readonly hasClusters: CfnCondition;
  readonly hasClusterRoles: CfnCondition;
  readonly hasVpc: CfnCondition;
  readonly hasAlarmTopic: CfnCondition;

  constructor(scope: Construct) {
    super(scope, 'parameters');
    this.jwtIssuer = this.text('JwtIssuer', "Issuer of the callers' tokens, an https URL.", {
      allowedPattern: 'https://.+',
    });
    this.jwtAudience = this.list('JwtAudience', 'Audiences of which a token must have one.');
    this.tenantClaim = this.text('TenantClaim', "Claim that names the caller's tenant.", {
      default: 'custom:tenant',
    });
    this.roleClaim = this.text(
      'RoleClaim',
      "Claim that names the caller's role (viewer, deployer or admin).",
      { default: 'custom:role' },
    );
    this.domainName = this.text(
      'DomainName',
      'Domain of the API, such as slipway.example.com; empty for the one that API Gateway gives.',
      { default: '' },
    );
    this.certificateArn = this.text(
      'CertificateArn',
      'Certificate of the domain, in this region; with DomainName only.',
      { default: '' },
    );
    this.apiRate = this.number('ApiRate', 'Calls a second that the API takes.', 200);
    this.apiBurst = this.number('ApiBurst', 'Calls at once that the API takes.', 400);
    this.apiConcurrency = this.number(
      'ApiConcurrency',
      'Most invocations at once of each of the five functions behind the API.',
      20,
    );
    this.planDagConcurrency = this.concurrency('plan-dag', 'PlanDag', 10);
    this.executeStepConcurrency = this.concurrency('execute-step', 'ExecuteStep', 100);
    this.deployHelmConcurrency = this.concurrency('deploy-helm', 'DeployHelm', 50);
    this.handleEventsConcurrency = this.concurrency('handle-events', 'HandleEvents', 50);
    this.trackDeploymentsConcurrency = this.concurrency('track-deployments', 'TrackDeployments', 50);
    this.retentionDays = this.number(
      'RetentionDays',
      'Days after which ended executions, jobs, history and idempotency records expire.',
      90,
      { minValue: 1 },
    );
    this.blobRetentionDays = this.number(
      'BlobRetentionDays',
      'Days after which plans, charts and large answers expire; more than RetentionDays.',
      120,
      { minValue: 2 },
    );
    this.logRetentionDays = this.number(
      'LogRetentionDays',
      'Days that logs are kept, one of the periods that CloudWatch Logs has.',
      30,
      { allowedValues: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731].map(String) },
    );
    this.chartHosts = this.text(
      'ChartHosts',
      'Hosts that charts may come from, separated by commas; bundled charts only if empty.',
      { default: '' },
    );
    this.plainHttpHosts = this.text('PlainHttpHosts', 'Those of the hosts that are asked without TLS.', {
      default: '',
    });
    this.usePipelineOrchestration = this.text(
      'UsePipelineOrchestration',
      'false makes jobs straight from deployments, without executions.',
      { default: 'true', allowedValues: ['true', 'false'] },
    );
    this.logFilter = this.text(
      'LogFilter',
      'Which log lines are written, such as info or slipway_app=debug,info.',
      { default: 'info' },
    );
    this.topics = this.text(
      'Topics',
      'Further topics that DAGs may name in callback_topics: members of a JSON object from name to SNS topic ARN, ' +
        'each with a comma before it, such as ,"audit":"arn:aws:sns:eu-central-1:111122223333:audit".',
      { default: '', allowedPattern: '(,"[A-Za-z0-9_-]+":"arn:[^"]+")*' },
    );
    this.topicArns = this.list(
      'TopicArns',
      'SNS topics that may be published to, by callback_topics and by notifications.',
      { default: '' },
    );
    this.clusterArns = this.list('ClusterArns', 'EKS clusters of this account that may be registered.', {
      default: '',
    });
    this.clusterRoleArns = this.list(
      'ClusterRoleArns',
      'Roles, of other accounts too, through which clusters are reached.',
      { default: '' },
    );
    this.vpcSubnetIds = this.list(
      'VpcSubnetIds',
      'Subnets from which private EKS endpoints are reached; empty to use no VPC.',
      { default: '' },
    );
    this.vpcSecurityGroupIds = this.list(
      'VpcSecurityGroupIds',
      'Security groups of the functions in those subnets.',
      { default: '' },
    );
    this.alarmTopicArn = this.text('AlarmTopicArn', 'SNS topic that alarms are sent to; empty for none.', {
      default: '',
    });

    this.hasDomain = this.given('HasDomain', this.domainName.valueAsString);
    this.hasTopics = this.given('HasTopics', Fn.join('', this.topicArns.valueAsList));
    this.hasClusters = this.given('HasClusters', Fn.join('', this.clusterArns.valueAsList));
    this.hasClusterRoles = this.given('HasClusterRoles', Fn.join('', this.clusterRoleArns.valueAsList));
    this.hasVpc = this.given('HasVpc', Fn.join('', this.vpcSubnetIds.valueAsList));
    this.hasAlarmTopic = this.given('HasAlarmTopic', this.alarmTopicArn.valueAsString);
    new CfnRule(this, 'DomainHasCertificate', {
      ruleCondition: Fn.conditionNot(Fn.conditionEquals(this.domainName.valueAsString, '')),
      assertions: [
        {
          assert: Fn.conditionNot(Fn.conditionEquals(this.certificateArn.valueAsString, '')),
          assertDescription: 'DomainName needs CertificateArn.',
        },
      ],
    });
  }

  private text(id: string, description: string, props: CfnParameterProps = {}): CfnParameter {
    return new CfnParameter(this, id, { type: 'String', description, ...props });
  }

  private list(id: string, description: string, props: CfnParameterProps = {}): CfnParameter {
    return new CfnParameter(this, id, { type: 'CommaDelimitedList', description, ...props });
  }

  private number(
    id: string,
    description: string,
    value: number,
    props: CfnParameterProps = {},
  ): CfnParameter {
    return new CfnParameter(this, id, { type: 'Number', description, default: value, ...props });
  }

  private concurrency(name: string, id: string, value: number): CfnParameter {
    return this.number(`${id}Concurrency`, `Most invocations of ${name} at once.`, value, { minValue: 2 });
  }

  private given(id: string, value: string): CfnCondition {
    return new CfnCondition(this, id, {
      expression: Fn.conditionNot(Fn.conditionEquals(value, '')),
    });
  }
}
