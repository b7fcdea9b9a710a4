import { Aws, Fn, Stack, Validations } from 'aws-cdk-lib';
import * as apigateway from 'aws-cdk-lib/aws-apigatewayv2';
import { HttpJwtAuthorizer } from 'aws-cdk-lib/aws-apigatewayv2-authorizers';
import { HttpLambdaIntegration } from 'aws-cdk-lib/aws-apigatewayv2-integrations';
import type * as kms from 'aws-cdk-lib/aws-kms';
import { Construct } from 'constructs';

import type { Functions } from './functions.js';
import { logGroup } from './log-group.js';
import type { Parameters } from './parameters.js';

export interface ApiProps {
  readonly parameters: Parameters;
  readonly key: kms.IKey;
  readonly functions: Functions;
}

/** The gateway checks tokens; the functions read tenant and role from the claims. */
export class Api extends Construct {
  readonly api: apigateway.HttpApi;
  /** Where callers find it. */
  readonly url: string;
  /** What the DNS record of its domain points to. */
  readonly domainTarget: string;

  constructor(scope: Construct, props: ApiProps) {
    super(scope, 'api');
    const { parameters, functions } = props;
    this.api = new apigateway.HttpApi(this, 'Api', {
      apiName: Aws.STACK_NAME,
      description: 'Slipway',
      createDefaultStage: false,
      defaultAuthorizer: new HttpJwtAuthorizer('Jwt', parameters.jwtIssuer.valueAsString, {
        authorizerName: 'Jwt',
        identitySource: ['$request.header.Authorization'],
        jwtAudience: parameters.jwtAudience.valueAsList,
      }),
    });
    (this.api.node.defaultChild as apigateway.CfnApi).addPropertyOverride(
      'DisableExecuteApiEndpoint',
      Fn.conditionIf(parameters.hasDomain.logicalId, true, false),
    );
    const stage = this.stage(props);
    for (const row of functions.all.filter((found) => found.routes !== undefined)) {
      const integration = new HttpLambdaIntegration(`${row.id}Integration`, row.function);
      for (const { path, open } of row.routes ?? []) {
        const routes = this.api.addRoutes({
          path,
          methods: [open === true ? apigateway.HttpMethod.GET : apigateway.HttpMethod.ANY],
          integration,
          ...(open === true ? { authorizer: new apigateway.HttpNoneAuthorizer() } : {}),
        });
        if (open === true) {
          for (const route of routes) {
            Validations.of(route).acknowledge({
              id: 'AwsSolutions-APIG4',
              reason: 'Everybody may read whether the API lives, and what it is.',
            });
          }
        }
      }
    }
    this.domainTarget = this.domain(parameters, stage).attrRegionalDomainName;
    this.url = Fn.conditionIf(
      parameters.hasDomain.logicalId,
      `https://${parameters.domainName.valueAsString}`,
      `https://${this.api.apiId}.execute-api.${Aws.REGION}.${Aws.URL_SUFFIX}`,
    ).toString();
  }

  private stage({ parameters, key }: ApiProps): apigateway.HttpStage {
    const logs = logGroup(this, 'ApiLogs', {
      name: `/aws/vendedlogs/${Aws.STACK_NAME}-api`,
      key,
      parameters,
    });
    const stage = new apigateway.HttpStage(this, 'ApiDefaultStage', {
      httpApi: this.api,
      stageName: '$default',
      autoDeploy: true,
      detailedMetricsEnabled: true,
      throttle: {
        rateLimit: parameters.apiRate.valueAsNumber,
        burstLimit: parameters.apiBurst.valueAsNumber,
      },
    });
    (stage.node.defaultChild as apigateway.CfnStage).accessLogSettings = {
      destinationArn: logs.logGroupArn,
      format: Stack.of(this).toJsonString({
        requestId: '$context.requestId',
        time: '$context.requestTimeEpoch',
        method: '$context.httpMethod',
        route: '$context.routeKey',
        path: '$context.path',
        status: '$context.status',
        latency: '$context.responseLatency',
        bytes: '$context.responseLength',
        subject: '$context.authorizer.claims.sub',
        sourceIp: '$context.identity.sourceIp',
        error: '$context.error.message',
        integrationError: '$context.integrationErrorMessage',
      }),
    };
    return stage;
  }

  private domain(parameters: Parameters, stage: apigateway.HttpStage): apigateway.CfnDomainName {
    const domain = new apigateway.CfnDomainName(this, 'Domain', {
      domainName: parameters.domainName.valueAsString,
      domainNameConfigurations: [
        {
          certificateArn: parameters.certificateArn.valueAsString,
          endpointType: 'REGIONAL',
          securityPolicy: 'TLS_1_2',
        },
      ],
    });
    const mapping = new apigateway.CfnApiMapping(this, 'DomainMapping', {
      apiId: this.api.apiId,
      domainName: domain.ref,
      stage: (stage.node.defaultChild as apigateway.CfnStage).ref,
    });
    for (const element of [domain, mapping]) {
      element.cfnOptions.condition = parameters.hasDomain;
    }
    return domain;
  }
}
