//! The API for backends.

use std::sync::Arc;

use roost_wire::limits::USERS_PER_COMMAND_MAX;
use roost_wire::{ErrorCode, FrameBody, UserId, pb};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::Hub;
use crate::fabric::{Call, Fabric};
use crate::proto::api::roost_server::Roost;
use crate::proto::api::{
    CreateConversationRequest, DisconnectReply, DisconnectRequest, GetConversationRequest, HistoryRequest,
    ListMembersReply, ListMembersRequest, PresenceReply, PresenceRequest, PublishRequest, SendRequest,
    UpdateMembersRequest, UserPresence,
};
use crate::status::to_status;

/// Where backends call.
pub struct ApiService<H> {
    hub: Arc<H>,
    fabric: Arc<Fabric>,
}

impl<H> Clone for ApiService<H> {
    fn clone(&self) -> Self {
        Self { hub: Arc::clone(&self.hub), fabric: Arc::clone(&self.fabric) }
    }
}

impl<H: Hub> ApiService<H> {
    /// For the router `hub`, whose deliveries go to `fabric`.
    #[must_use]
    pub const fn new(hub: Arc<H>, fabric: Arc<Fabric>) -> Self {
        Self { hub, fabric }
    }

    /// The request, if a valid service token came with it.
    fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        match bearer(request.metadata()).and_then(|token| self.hub.allow_service(token)) {
            Ok(()) => {
                self.fabric.metrics.calls.add(1);
                Ok(request.into_inner())
            }
            Err(error) => {
                self.fabric.metrics.calls_refused.add(1);
                Err(to_status(error))
            }
        }
    }

    /// Has `user` do something.
    async fn call(&self, user: &str, body: FrameBody) -> Result<FrameBody, Status> {
        let user = user_id(user)?;
        let call = Call { user, body, within: self.fabric.config.command_deadline };
        self.fabric.calls.call(&self.hub, call, &self.fabric.metrics).await.map_err(to_status)
    }

    async fn conversation(&self, user: &str, body: FrameBody) -> Result<pb::Conversation, Status> {
        match self.call(user, body).await? {
            FrameBody::Conversation(conversation) => Ok(conversation),
            _ => Err(unexpected()),
        }
    }
}

fn bearer(metadata: &MetadataMap) -> Result<&str, pb::Error> {
    metadata
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| ErrorCode::BadToken.because("authorization: Bearer <service token> is needed"))
}

fn user_id(user: &str) -> Result<UserId, Status> {
    UserId::new(user).map_err(|error| to_status(ErrorCode::BadField.because(format!("user: {error}"))))
}

fn missing(field: &str) -> Status {
    to_status(ErrorCode::BadField.because(format!("{field} is missing")))
}

fn unexpected() -> Status {
    to_status(ErrorCode::Internal.error())
}

#[tonic::async_trait]
impl<H: Hub> Roost for ApiService<H> {
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<pb::Sent>, Status> {
        let publish = self.admit(request)?.publish.ok_or_else(|| missing("publish"))?;
        Ok(Response::new(self.hub.publish(None, publish).await.map_err(to_status)?))
    }

    async fn send(&self, request: Request<SendRequest>) -> Result<Response<pb::Sent>, Status> {
        let SendRequest { user, send } = self.admit(request)?;
        let mut send = send.ok_or_else(|| missing("send"))?;
        if send.cmid.is_empty() {
            send.cmid = format!("{:032x}", rand::random::<u128>());
        }
        match self.call(&user, FrameBody::Send(send)).await? {
            FrameBody::Sent(sent) => Ok(Response::new(sent)),
            _ => Err(unexpected()),
        }
    }

    async fn disconnect(&self, request: Request<DisconnectRequest>) -> Result<Response<DisconnectReply>, Status> {
        let user = user_id(&self.admit(request)?.user)?;
        self.hub.disconnect(&user);
        Ok(Response::new(DisconnectReply {}))
    }

    async fn presence(&self, request: Request<PresenceRequest>) -> Result<Response<PresenceReply>, Status> {
        let users = self.admit(request)?.users;
        if users.len() > USERS_PER_COMMAND_MAX {
            return Err(to_status(ErrorCode::BadField.because("too many users in one call")));
        }
        let ids = users.iter().map(|user| user_id(user)).collect::<Result<Vec<_>, _>>()?;
        let online = self.hub.online(&ids);
        let users = users.into_iter().zip(online).map(|(user, online)| UserPresence { user, online }).collect();
        Ok(Response::new(PresenceReply { users }))
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<pb::Page>, Status> {
        let HistoryRequest { user, history } = self.admit(request)?;
        let history = history.ok_or_else(|| missing("history"))?;
        match self.call(&user, FrameBody::History(history)).await? {
            FrameBody::Page(page) => Ok(Response::new(page)),
            _ => Err(unexpected()),
        }
    }

    async fn create_conversation(
        &self,
        request: Request<CreateConversationRequest>,
    ) -> Result<Response<pb::Conversation>, Status> {
        let CreateConversationRequest { user, create } = self.admit(request)?;
        let create = create.ok_or_else(|| missing("create"))?;
        Ok(Response::new(self.conversation(&user, FrameBody::Create(create)).await?))
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<pb::Conversation>, Status> {
        let GetConversationRequest { user, conv } = self.admit(request)?;
        Ok(Response::new(self.conversation(&user, FrameBody::Get(pb::Get { conv })).await?))
    }

    async fn update_members(
        &self,
        request: Request<UpdateMembersRequest>,
    ) -> Result<Response<pb::Conversation>, Status> {
        let UpdateMembersRequest { user, members } = self.admit(request)?;
        let members = members.ok_or_else(|| missing("members"))?;
        let named = members.add.len() + members.remove.len() + members.roles.len();
        if named > USERS_PER_COMMAND_MAX {
            return Err(to_status(ErrorCode::BadField.because("too many users in one call")));
        }
        Ok(Response::new(self.conversation(&user, FrameBody::Members(members)).await?))
    }

    async fn list_members(&self, request: Request<ListMembersRequest>) -> Result<Response<ListMembersReply>, Status> {
        let ListMembersRequest { user, conv } = self.admit(request)?;
        let found = self.conversation(&user, FrameBody::Get(pb::Get { conv })).await?;
        Ok(Response::new(ListMembersReply { members: found.members }))
    }
}
