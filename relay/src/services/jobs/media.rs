//! The links to a job's files. The stored event has them; the journal and the view do not.

use crate::services::{access::Caller, cluster::Cluster, error::Error};
use talaria_core::media::read;
use talaria_proto::{
    time::to_proto,
    v1::{
        ClusterMethod, GetEventRequest, GetJobRequest, GetMediaRequest, GetMediaResponse, JobState, MediaFile,
    },
};

impl Cluster {
    pub(super) async fn media(
        &self,
        caller: &Caller,
        request: GetMediaRequest,
    ) -> Result<GetMediaResponse, Error> {
        let asked = GetJobRequest { job_id: request.job_id, tenant: request.tenant };
        let job = self.openrouter_job(caller, asked).await?;
        if job.state() != JobState::Completed {
            return Err(Error::NotCompleted { state: state(job.state()), id: job.id });
        }
        let asked = GetEventRequest { event_id: job.event_id, include_payload: false };
        let own = self.local().event(caller, asked.clone());
        let found = match self.find(caller, ClusterMethod::GetEvent, &asked, own).await {
            Err(error) if error.is_not_found() => return Err(Error::EndNotKept(job.id)),
            found => found?,
        };
        let Some(event) = self.local().bus.event_at(found.event_seq).await? else {
            return Err(Error::EndNotKept(job.id));
        };
        let files: Vec<MediaFile> = event.media_urls.iter().zip(0..).filter_map(file).collect();
        if files.is_empty() {
            return Err(Error::NoLinks(job.id));
        }
        Ok(GetMediaResponse { files })
    }
}

/// As jobs are shown: `RUNNING`.
fn state(state: JobState) -> &'static str {
    state.as_str_name().trim_start_matches("JOB_STATE_")
}

/// A link with its expiry, by its own word: an ingress has signed it.
fn file((url, index): (&String, u32)) -> Option<MediaFile> {
    let (_, token) = url.rsplit_once('/')?;
    let expires_at = Some(to_proto(read(token)?.expires_at()));
    Some(MediaFile { index, url: url.clone(), expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use talaria_core::media::{Claims, sign};

    #[test]
    fn a_link_says_when_it_expires() {
        let expires_at = Timestamp::from_second(1_777_000_020).unwrap();
        let claims = Claims { tenant: "acme".into(), job_id: "j".into(), index: 1, expires_at };
        let url = format!("https://h/t/media/{}", sign(&"k".into(), &claims).unwrap());
        let file = file((&url, 1)).unwrap();
        assert_eq!((file.index, file.expires_at, &file.url), (1, Some(to_proto(expires_at)), &url));
        assert_eq!(super::file((&"https://h/media/nonsense".to_owned(), 0)), None);
    }
}
